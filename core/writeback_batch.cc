#include "core/writeback_batch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/mutation.h"
#include "core/publish.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Bounds the work of one step when key sets are small.
constexpr uint64_t kMaxSets = 65536;
// Largest write sent to the backing device, and most buffers in one.
constexpr uint64_t kMaxRequest = kMiB;
constexpr size_t kMaxBuffers = 256;

}  // namespace

LogReader WritebackBatch::ReaderAt(const LogPosition& position) {
  return LogReader(core_.device(), core_.table(),
                   {.image = core_.tag(),
                    .image_size = core_.size(),
                    .position = position});
}

absl::Status WritebackBatch::LogError(const LogPosition& position,
                                      const absl::Status& why) const {
  return absl::DataLossError(absl::StrCat(
      "image ", core_.name(), ": key log unreadable in segment ",
      position.segment.value(), " at ", position.offset.value(), ", key set ",
      position.sequence.value(), ": ", why.message()));
}

absl::StatusOr<SequenceNumber> WritebackBatch::EndOfGroup(
    const LogPosition& from, SequenceNumber limit, uint64_t max_bytes) {
  // Its mark is in the set behind it, which need not be there yet.
  const SequenceNumber last_epoch_end = core_.log().last_epoch_end();
  LogReader reader = ReaderAt(from);
  SequenceNumber end = limit;
  uint64_t bytes = 0;
  uint64_t sets = 0;
  bool dirty = false;
  while (reader.position().sequence <= limit && sets < kMaxSets &&
         (bytes < max_bytes || sets == 0)) {
    const LogPosition position = reader.position();
    absl::StatusOr<KeySetView> set = reader.Next();
    if (!set.ok()) return LogError(position, set.status());
    if (set->header().begins_epoch && dirty) end = position.sequence - 1;
    KeySetView::Cursor cursor(*set);
    while (cursor.Next()) {
      if (!IsDirty(cursor.key().kind)) continue;
      dirty = true;
      if (HasPayload(cursor.key().kind)) bytes += cursor.key().range.length;
    }
    if (position.sequence == last_epoch_end && dirty) end = last_epoch_end;
    ++sets;
  }
  return end;
}

absl::Status WritebackBatch::Collect(const LogPosition& from,
                                     SequenceNumber limit, uint64_t max_bytes,
                                     WritebackOrder order) {
  if (order == WritebackOrder::kGrouped) {
    ASSIGN_OR_RETURN(limit, EndOfGroup(from, limit, max_bytes));
  }
  LogReader reader = ReaderAt(from);
  end_ = from;
  uint64_t bytes = 0;
  while (end_.sequence <= limit && set_count_ < kMaxSets &&
         (bytes < max_bytes || set_count_ == 0)) {
    absl::StatusOr<KeySetView> set = reader.Next();
    if (!set.ok()) return LogError(end_, set.status());
    if (set->header().begins_epoch && !keys_.empty()) {
      // The user's flush is a boundary that the backing device must not blur.
      if (order == WritebackOrder::kStrict &&
          !Planted(Mutation::kMixedEpochs)) {
        break;
      }
      spans_epochs_ = true;
    }
    KeySetView::Cursor cursor(*set);
    while (cursor.Next()) {
      has_provisional_keys_ |= cursor.key().kind == KeyKind::kProvisional;
      if (!IsDirty(cursor.key().kind)) continue;
      Add(cursor.key(), set->header().sequence);
      bytes += CostOf(cursor.key());
    }
    end_ = reader.position();
    ++set_count_;
  }
  return absl::OkStatus();
}

uint64_t WritebackBatch::CostOf(const Key& key) const {
  if (cost_ == Cost::kPayload) {
    return HasPayload(key.kind) ? key.range.length : 0;
  }
  // One set per stripe.
  constexpr uint64_t kSetSize = 128;
  return (HasPayload(key.kind) ? PayloadBlocks(key) * kBlockSize : 0) +
         (key.range.length / kStripeSize + 1) * kSetSize;
}

void WritebackBatch::Add(const Key& key, SequenceNumber sequence) {
  // A key of an old life of its segment was written back long ago (C7).
  if (HasPayload(key.kind) &&
      core_.table().segment(key.position.segment).generation() !=
          key.generation) {
    return;
  }
  keys_.push_back({key, sequence});
  if (Planted(Mutation::kOldestWinsInBatch) && Holds(key.range)) return;
  Cut(key.range.offset.value(), key.range.end().value());
  extents_.emplace(
      key.range.offset.value(),
      Extent{.length = key.range.length,
             .kind = key.kind,
             .source = SourceOf(core_.payload(), key, sequence,
                                key.range.offset)});
}

bool WritebackBatch::Holds(ImageRange range) const {
  const auto it = extents_.lower_bound(range.end().value());
  return it != extents_.begin() &&
         std::prev(it)->first + std::prev(it)->second.length >
             range.offset.value();
}

void WritebackBatch::Cut(uint64_t begin, uint64_t end) {
  auto it = extents_.lower_bound(begin);
  if (it != extents_.begin() &&
      std::prev(it)->first + std::prev(it)->second.length > begin) {
    --it;
  }
  while (it != extents_.end() && it->first < end) {
    const uint64_t old_begin = it->first;
    const Extent old = it->second;
    const uint64_t old_end = old_begin + old.length;
    it = extents_.erase(it);
    if (old_begin < begin) {
      Extent left = old;
      left.length = begin - old_begin;
      extents_.emplace(old_begin, left);
    }
    if (old_end > end) {
      it = extents_
               .emplace(end, Extent{.length = old_end - end,
                                    .kind = old.kind,
                                    .source = old.source.Advanced(
                                        (end - old_begin) / kSectorSize)})
               .first;
      ++it;
    }
  }
}

void WritebackBatch::Visit(
    absl::FunctionRef<void(ImageRange, KeyKind, PieceSource)> visit) const {
  for (const auto& [offset, extent] : extents_) {
    visit({ImageOffset(offset), extent.length}, extent.kind, extent.source);
  }
}

absl::StatusOr<std::vector<BackingRequest>> WritebackBatch::MakeRequests(
    bool unreadable_is_lost) {
  unreadable_is_lost_ = unreadable_is_lost;
  buffers_.clear();
  lost_.clear();
  bytes_to_write_ = 0;
  std::vector<BackingRequest> requests;
  for (const auto& [offset, extent] : extents_) {
    if (HasPayload(extent.kind)) {
      RETURN_IF_ERROR(AppendPayload(ImageOffset(offset), extent, requests));
      continue;
    }
    const auto operation = extent.kind == KeyKind::kZero
                               ? BackingRequest::Operation::kZero
                               : BackingRequest::Operation::kDiscard;
    if (!requests.empty() && requests.back().operation == operation &&
        requests.back().offset + requests.back().length == offset) {
      requests.back().length += extent.length;
      continue;
    }
    BackingRequest request;
    request.operation = operation;
    request.kind = BackingRequest::Kind::kMemoryType;
    request.offset = offset;
    request.length = extent.length;
    requests.push_back(std::move(request));
  }
  return requests;
}

absl::Status WritebackBatch::AppendPayload(
    ImageOffset offset, const Extent& extent,
    std::vector<BackingRequest>& requests) {
  const CachePosition position =
      core_.payload().PositionOf(extent.source.media_sector());
  absl::StatusOr<std::span<const std::byte>> bytes =
      core_.payload().View(position, extent.length);
  if (bytes.ok() && bytes->empty()) {
    AlignedBuffer buffer(extent.length);
    const absl::Status read = core_.payload().Read(position, buffer.span());
    if (read.ok()) {
      bytes = buffer.span();
      buffers_.push_back(std::move(buffer));
    } else {
      bytes = read;
    }
  }
  if (!bytes.ok()) {
    const uint64_t first_block =
        kBlockSize - position.offset.value() % kBlockSize;
    if (!absl::IsDataLoss(bytes.status()) && !unreadable_is_lost_) {
      return bytes.status();
    }
    if (extent.length <= first_block) {
      core_.counters().Add(Counter::kChecksumErrors);
      lost_.push_back({.range = {offset, extent.length},
                       .source = extent.source,
                       .why = bytes.status()});
      return absl::OkStatus();
    }
    // Only the blocks that are bad are lost.
    Extent first = extent;
    first.length = first_block;
    Extent rest = extent;
    rest.length = extent.length - first_block;
    rest.source = extent.source.Advanced(first_block / kSectorSize);
    RETURN_IF_ERROR(AppendPayload(offset, first, requests));
    return AppendPayload(offset + first_block, rest, requests);
  }
  bytes_to_write_ += bytes->size();
  const std::span<std::byte> buffer(const_cast<std::byte*>(bytes->data()),
                                    bytes->size());
  if (!requests.empty()) {
    BackingRequest& last = requests.back();
    if (last.operation == BackingRequest::Operation::kWrite &&
        last.offset + last.length == offset.value() &&
        last.length + buffer.size() <= kMaxRequest &&
        last.buffers.size() < kMaxBuffers) {
      last.buffers.push_back(buffer);
      last.length += buffer.size();
      return absl::OkStatus();
    }
  }
  BackingRequest request;
  request.operation = BackingRequest::Operation::kWrite;
  request.kind = BackingRequest::Kind::kMemoryType;
  request.offset = offset.value();
  request.length = buffer.size();
  request.buffers.push_back(buffer);
  requests.push_back(std::move(request));
  return absl::OkStatus();
}

void WritebackBatch::MarkClean() {
  for (const DirtyKey& dirty : keys_) {
    core_.dirty_bytes() -= dirty.key.range.length;
    if (!HasPayload(dirty.key.kind)) continue;
    core_.throttle().RemoveDirty(PayloadBlocks(dirty.key));
    core_.table()
        .segment(dirty.key.position.segment)
        .SetDirty(dirty.key.position.offset.value() / kBlockSize,
                  PayloadBlocks(dirty.key), false);
  }
}

}  // namespace pcachefs
