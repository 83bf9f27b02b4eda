#include "core/cached_image.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/around_path.h"
#include "core/image_core.h"
#include "core/mode_switch.h"
#include "core/read_path.h"
#include "core/write_path.h"
#include "core/writeback.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

absl::Status CheckRange(const ImageCore& core, ImageRange range) {
  if (range.offset.value() <= core.size() &&
      range.length <= core.size() - range.offset.value()) {
    return absl::OkStatus();
  }
  return absl::OutOfRangeError(absl::StrCat(
      "image ", core.name(), ": got ", range.length, " bytes at ",
      range.offset.value(), ", want them within ", core.size()));
}

absl::Status CheckWritable(ImageCore& core) {
  if (core.barrier().failed()) return core.barrier().status();
  if (!core.read_only()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("image ", core.name(), ": opened read-only"));
}

// Notes how long it is from here to the answer.
CachedImage::Done Timed(ImageCore& core, Timing timing,
                        CachedImage::Done done) {
  return [&core, timing, began = core.clock().NowNanos(),
          done = std::move(done)](absl::Status status) mutable {
    core.counters().AddLatency(timing, core.clock().NowNanos() - began);
    done(std::move(status));
  };
}

bool IsDirtyPayload(ImageCore& core, const KeyIndex::Piece& piece) {
  const CachePosition position =
      core.payload().PositionOf(piece.source.media_sector());
  const Segment& segment = core.table().segment(position.segment);
  const uint32_t begin = position.offset.value();
  const uint32_t end = begin + piece.length * kSectorSize;
  for (uint32_t at = RoundDown(begin, kBlockSize); at < end;
       at += kBlockSize) {
    if (segment.dirty(at / kBlockSize)) return true;
  }
  return false;
}

}  // namespace

CachedImage::CachedImage(std::unique_ptr<ImageCore> core)
    : core_(std::move(core)) {}

CachedImage::~CachedImage() = default;

const std::string& CachedImage::name() const { return core_->name(); }
ImageId CachedImage::id() const { return core_->id(); }
uint64_t CachedImage::size() const { return core_->size(); }
bool CachedImage::read_only() const { return core_->read_only(); }

void CachedImage::Read(ImageRange range, std::span<std::byte> out, Done done,
                       Buffer buffer) {
  absl::Status checked = CheckRange(*core_, range);
  if (!checked.ok() || range.empty()) {
    done(std::move(checked));
    return;
  }
  core_->read_path().Read(range, out, buffer, std::move(done));
}

void CachedImage::Write(ImageRange range, std::span<const std::byte> bytes,
                        Payload payload, Done done) {
  absl::Status checked = CheckRange(*core_, range);
  checked.Update(CheckWritable(*core_));
  if (!checked.ok() || range.empty()) {
    done(std::move(checked));
    return;
  }
  core_->write_path().Write(range, bytes, payload, std::move(done));
}

void CachedImage::Discard(ImageRange range, Done done) {
  Erase(range, KeyKind::kDiscard, std::move(done));
}

void CachedImage::Zero(ImageRange range, Done done) {
  Erase(range, KeyKind::kZero, std::move(done));
}

void CachedImage::Erase(ImageRange range, KeyKind kind, Done done) {
  absl::Status checked = CheckRange(*core_, range);
  checked.Update(CheckWritable(*core_));
  if (!checked.ok() || range.empty()) {
    done(std::move(checked));
    return;
  }
  core_->write_path().Erase(range, kind, std::move(done));
}

void CachedImage::Flush(Done done) {
  core_->counters().Add(Counter::kFlushes);
  done = Timed(*core_, Timing::kFlush, std::move(done));
  if (GoesAround(core_->settings().mode()) && !core_->read_only()) {
    return core_->around_path().Flush(std::move(done));
  }
  core_->Commit(/*end_epoch=*/true, std::move(done));
}

void CachedImage::SetMode(CacheMode mode, Done done) {
  core_->mode_switch().Start(mode, std::move(done));
}

absl::StatusOr<CachedImage::Extent> CachedImage::FindExtent(
    ImageOffset offset) {
  RETURN_IF_ERROR(CheckRange(*core_, {offset, 1}));
  // One stripe at a time: the caller asks on.
  const ImageOffset begin(RoundDown(offset.value(), kSectorSize));
  const uint64_t in_stripe = begin.value() % kStripeSize;
  const ImageRange range = {
      begin, std::min(kStripeSize - in_stripe, core_->size() - begin.value())};
  // Clean data says no more than the backing device does, where a hole that was
  // read is still a hole.
  bool told = false;
  Extent extent = {.length = range.length};
  ForEachSlice(range, [&](const ShardSlice& slice) {
    Shard& shard = core_->shards()[slice.shard];
    absl::MutexLock lock(&shard.mutex);
    bool first = true;
    shard.index.Visit(
        slice.start, slice.length, [&](const KeyIndex::Piece& piece) {
          if (!std::exchange(first, false)) return;
          const uint64_t gap =
              uint64_t{piece.start - slice.start} * kSectorSize;
          extent.length =
              gap == 0 ? uint64_t{piece.length} * kSectorSize : gap;
          if (gap != 0) return;
          extent.is_hole = piece.source.kind() == PieceSource::Kind::kZero;
          told = piece.source.kind() != PieceSource::Kind::kPayload ||
                 IsDirtyPayload(*core_, piece);
        });
  });
  if (!told) {
    ASSIGN_OR_RETURN(const BackingDevice::Extent behind,
                     core_->backing().FindExtent(begin.value()));
    extent.length = std::min(extent.length, behind.length);
    extent.is_hole = behind.is_hole;
  }
  extent.length -= offset - begin;
  return extent;
}

uint64_t CachedImage::allocated_bytes() {
  const uint64_t behind = core_->backing().allocated_bytes();
  return std::min(core_->size(), behind + core_->dirty_bytes());
}

void CachedImage::Drain(Done done) {
  absl::Status failed = CheckWritable(*core_);
  if (!failed.ok()) {
    done(std::move(failed));
    return;
  }
  if (GoesAround(core_->settings().mode())) {
    // Nothing is dirty, but what was written may not be durable there.
    core_->around_path().FlushBacking(
        [this, done = std::move(done)](absl::Status status) mutable {
          if (!status.ok()) core_->around_path().NoteFlushFailed();
          done(std::move(status));
        });
    return;
  }
  core_->writeback().Drain(std::move(done));
}

ImageStatus CachedImage::status() { return core_->status(); }

absl::Status CachedImage::Change(const ImageChanges& changes) {
  return core_->ChangeRecord(
      [&](ImageRecord& record) { return changes.Apply(record); });
}

}  // namespace pcachefs
