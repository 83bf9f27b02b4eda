#include "core/hit_view.h"

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "core/counters.h"
#include "core/image_core.h"
#include "core/key_index.h"
#include "core/payload_io.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// More are better copied; writev takes 1024.
constexpr size_t kMostPieces = 256;

}  // namespace

HitView::HitView(ImageCore& core, ImageRange range) {
  if (!core.is_mapped() || core.settings().mode() == CacheMode::kPassthrough ||
      !IsAligned(range.offset.value(), kSectorSize) ||
      !IsAligned(range.length, kSectorSize)) {
    return;
  }
  const int64_t began = core.clock().NowNanos();
  bool found = true;
  ForEachSlice(range, [&](const ShardSlice& slice) {
    found = found && Collect(core, slice);
  });
  if (!found || !View(core)) {
    parts_.clear();
    return;
  }
  Count(core, range);
  core.counters().AddLatency(Timing::kReadHit,
                             core.clock().NowNanos() - began);
}

bool HitView::Collect(ImageCore& core, const ShardSlice& slice) {
  Shard& shard = core.shards()[slice.shard];
  absl::MutexLock lock(&shard.mutex);
  uint32_t next = slice.start;
  bool found = true;
  shard.index.Visit(
      slice.start, slice.length, [&](const KeyIndex::Piece& piece) {
        found = found && piece.start == next &&
                piece.source.kind() == PieceSource::Kind::kPayload &&
                pieces_.size() < kMostPieces;
        if (!found) return;
        next += piece.length;
        const CachePosition position =
            core.payload().PositionOf(piece.source.media_sector());
        Segment& segment = core.table().segment(position.segment);
        segment.Pin();
        pieces_.push_back({.position = position,
                           .length = uint64_t{piece.length} * kSectorSize,
                           .pin = SegmentPin(&segment)});
      });
  return found && next == slice.start + slice.length;
}

bool HitView::View(ImageCore& core) {
  for (const Piece& piece : pieces_) {
    const absl::StatusOr<Part> part =
        core.payload().View(piece.position, piece.length);
    if (!part.ok() || part->empty()) return false;
    parts_.push_back(*part);
  }
  return true;
}

void HitView::Count(ImageCore& core, ImageRange range) {
  Counters& counters = core.counters();
  counters.Add(Counter::kReads);
  counters.Add(Counter::kReadBytes, range.length);
  counters.Add(Counter::kReadHits);
  counters.Add(Counter::kReadHitBytes, range.length);
  for (const Piece& piece : pieces_) {
    const uint32_t used = core.payload().MarkHit(piece.position, piece.length);
    if (used > 0) {
      counters.Add(Counter::kReadAheadUsedBytes, used * kBlockSize);
    }
  }
}

}  // namespace pcachefs
