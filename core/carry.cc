#include "core/carry.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/aligned_buffer.h"
#include "core/write_path.h"
#include "glog/logging.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Bounds one look at a slice: what is copied while others may overwrite it.
constexpr uint64_t kMaxBytesAtOnce = kMiB;
constexpr size_t kMaxKeysAtOnce = 256;

// Failures in a row after which what the cache device cannot read is lost.
constexpr int kFailuresBeforeGivingUp = 11;

}  // namespace

bool Carry::Step() {
  if (!core_.read_only_backing() || core_.read_only()) return false;
  NoteRoom();
  if (core_.barrier().failed() || core_.clock().Now() < retry_at_) return false;
  const bool is_waited_for = core_.write_path().has_waiting();
  if (!is_waited_for && !IsCheap()) {
    in_round_ = false;
    return false;
  }
  if (is_waited_for && is_full_) {
    RefuseWriters();
    return true;
  }
  const LogPosition tail = core_.tails().dirty_tail();
  const bool is_over =
      tail.sequence > core_.log().last() ||
      (in_round_ && tail.sequence > round_end_ &&
       core_.write_path().served() == served_before_);
  if (is_waited_for && is_over) {
    // Reclaim has had all that was left behind; what a reader holds will come.
    if (core_.space().has_unreferenced()) return false;
    RefuseWriters();
    return true;
  }
  if (is_over) return false;
  if (!in_round_ || tail.sequence > round_end_) BeginRound();
  const absl::Status status = CarryFrom(tail);
  if (absl::IsResourceExhausted(status)) {
    if (is_waited_for) {
      RefuseWriters();
      return true;
    }
    // Nothing is wrong; later there may be more to gain.
    cheap_at_ = core_.clock().Now() + core_.options().retry_last;
    return false;
  }
  if (!status.ok()) return Fail(status);
  unreadable_ = 0;
  if (std::exchange(has_failed_, false)) {
    core_.health().Set(HealthState::kDegraded, core_.lasting_reason());
  }
  return true;
}

// Reads evict what was read before, as ever, as long as what is dirty on the way
// is the smaller part of what is passed.
bool Carry::IsCheap() {
  if (core_.clock().Now() < cheap_at_) return false;
  const uint64_t used = core_.space().used();
  const bool is_wanted =
      core_.space().payload_left() == 0 ||
      used * 100 >= uint64_t{core_.space().share()} *
                        static_cast<uint64_t>(core_.settings().gc_percent());
  return is_wanted &&
         core_.dirty_bytes() * 2 <
             used * core_.table().geometry().segment_size() &&
         core_.tails().key_tail().sequence ==
             core_.tails().dirty_tail().sequence;
}

void Carry::BeginRound() {
  in_round_ = true;
  round_end_ = core_.log().last();
  served_before_ = core_.write_path().served();
}

void Carry::RefuseWriters() {
  if (!std::exchange(is_full_, true)) {
    full_dirty_bytes_ = core_.dirty_bytes();
    full_share_ = core_.space().share();
    in_round_ = false;
    const std::string reason = absl::StrCat(
        "the share is full of data that the read-only backing device does not "
        "take; discard some, or enlarge image_cache_size");
    if (core_.health().Set(HealthState::kDegraded, reason)) {
      LOG(ERROR) << "image " << core_.name() << ": " << reason;
    }
  }
  core_.write_path().RefuseWaiting(absl::ResourceExhaustedError(absl::StrCat(
      "image ", core_.name(), ": no room for more writes: its backing device "
      "is read-only and its share of the cache is full")));
}

void Carry::NoteRoom() {
  if (!is_full_) return;
  const uint64_t enough = core_.table().geometry().segment_size() / 4;
  if (core_.space().payload_left() == 0 &&
      core_.space().share() == full_share_ &&
      core_.dirty_bytes() < full_dirty_bytes_ + enough) {
    return;
  }
  is_full_ = false;
  if (core_.health().Set(HealthState::kDegraded, core_.lasting_reason())) {
    LOG(INFO) << "image " << core_.name() << ": takes writes again";
  }
}

absl::Status Carry::CarryFrom(const LogPosition& tail) {
  core_.space().set_carrying(true);
  const uint64_t segment = core_.table().geometry().segment_size();
  const uint64_t room =
      core_.allocator().carry_rest() + core_.space().carry_left() * segment;
  absl::Status status =
      CarryBatch(tail, std::clamp(room / 2, segment / 4, segment));
  // What was carried of the batch need not be again: one set after the other may
  // still go.
  if (absl::IsResourceExhausted(status)) status = CarryBatch(tail, 0);
  core_.space().set_carrying(false);
  return status;
}

absl::Status Carry::CarryBatch(const LogPosition& tail, uint64_t max_bytes) {
  WritebackBatch batch(core_, WritebackBatch::Cost::kCarrying);
  // In the log only; the order of writeback has no meaning here.
  RETURN_IF_ERROR(batch.Collect(tail, core_.log().last(), max_bytes,
                                WritebackOrder::kRelaxed));
  bool has_published = false;
  absl::Status status;
  batch.Visit([&](ImageRange range, KeyKind kind, PieceSource source) {
    ForEachSlice(range, [&](const ShardSlice& slice) {
      if (!status.ok()) return;
      status = CarrySlice(slice, kind,
                          source.Advanced((slice.offset - range.offset) /
                                          kSectorSize),
                          has_published);
    });
  });
  RETURN_IF_ERROR(status);
  const SequenceNumber covered = core_.log().last();
  if (has_published || core_.log().durable() < batch.end().sequence - 1) {
    RETURN_IF_ERROR(core_.barrier().Persist());
    core_.log().MarkDurable(covered);
  }
  RETURN_IF_ERROR(core_.tails().StoreDirtyTail(batch.end()));
  RETURN_IF_ERROR(core_.tails().Persist());
  batch.MarkClean();
  core_.tails().ShowDirtyTail();
  return absl::OkStatus();
}

absl::Status Carry::CarrySlice(const ShardSlice& slice, KeyKind kind,
                               PieceSource source, bool& has_published) {
  Shard& shard = core_.shards()[slice.shard];
  auto placeholder = std::make_shared<Fill>();
  placeholder->range = slice.range();
  placeholder->arrived = true;
  absl::Status status;
  // Looking and publishing are one step unless a write comes in between, which
  // the placeholder tells; then it looks again.
  for (bool found = true; found && status.ok();) {
    std::vector<std::pair<ImageRange, PieceSource>> pieces;
    {
      absl::MutexLock lock(&shard.mutex);
      uint64_t bytes = 0;
      shard.index.Visit(
          slice.start, slice.length, [&](const KeyIndex::Piece& piece) {
            if (piece.source != source.Advanced(piece.start - slice.start) ||
                pieces.size() == kMaxKeysAtOnce || bytes >= kMaxBytesAtOnce) {
              return;
            }
            const uint64_t length = uint64_t{piece.length} * kSectorSize;
            pieces.push_back({{slice.OffsetOf(piece.start), length},
                              piece.source});
            if (HasPayload(kind)) bytes += length;
          });
      found = !pieces.empty();
      if (!found) break;
      placeholder->overwritten = false;
      shard.fills.push_back(placeholder);
    }
    Moved moved;
    for (const auto& [range, piece] : pieces) {
      status = CopyPiece(range, kind, piece, moved);
      if (!status.ok()) break;
    }
    if (status.ok() && !moved.keys.empty()) {
      status = PublishKeys(core_, slice.range(), moved.keys,
                           {&placeholder, 1});
      has_published |= status.ok();
    }
    if (!status.ok() && HasPayload(kind)) AbandonPayload(core_, moved.keys);
    {
      absl::MutexLock lock(&shard.mutex);
      shard.ForgetFill(placeholder.get());
    }
    if (absl::IsAborted(status)) {
      status = absl::OkStatus();
      continue;
    }
    for (const WritebackBatch::LostRange& lost : moved.lost) {
      if (!status.ok()) break;
      status = MarkLost(core_, lost.range, lost.source);
      has_published = true;
      if (status.ok()) core_.NoteLost(lost.range, lost.why);
    }
  }
  return status;
}

absl::Status Carry::CopyPiece(ImageRange range, KeyKind kind,
                              PieceSource source, Moved& moved) {
  if (!HasPayload(kind)) {
    moved.keys.push_back({.key = {.kind = kind, .range = range}});
    return absl::OkStatus();
  }
  const CachePosition position =
      core_.payload().PositionOf(source.media_sector());
  AlignedBuffer buffer(range.length);
  const absl::Status read = core_.payload().Read(position, buffer.span());
  if (read.ok()) {
    return WritePayload(core_, kind, range, buffer.span(), moved.keys,
                        AllocationPurpose::kCarry);
  }
  if (!absl::IsDataLoss(read) && unreadable_ < kFailuresBeforeGivingUp) {
    ++unreadable_;
    return read;
  }
  const uint64_t first_block =
      kBlockSize - position.offset.value() % kBlockSize;
  if (range.length <= first_block) {
    core_.counters().Add(Counter::kChecksumErrors);
    moved.lost.push_back({.range = range, .source = source, .why = read});
    return absl::OkStatus();
  }
  // Only the blocks that are bad are lost.
  RETURN_IF_ERROR(CopyPiece({range.offset, first_block}, kind, source, moved));
  return CopyPiece({range.offset + first_block, range.length - first_block},
                   kind, source.Advanced(first_block / kSectorSize), moved);
}

bool Carry::Fail(const absl::Status& status) {
  has_failed_ = true;
  retry_at_ = core_.clock().Now() + core_.options().retry_first;
  if (core_.health().Set(HealthState::kDegraded,
                         absl::StrCat("making room: ", status.message()))) {
    LOG(ERROR) << "image " << core_.name() << ": no room is made: " << status;
  }
  return false;
}

}  // namespace pcachefs
