#include "core/image_map.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "core/cached_image.h"
#include "core/image_core.h"
#include "core/key_index.h"
#include "core/log_reader.h"
#include "core/payload_io.h"
#include "core/segment_table.h"
#include "core/shard.h"
#include "meta/key_set.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

bool IsDirtyAt(ImageCore& core, uint64_t media_sector) {
  const CachePosition position = core.payload().PositionOf(media_sector);
  return core.table().segment(position.segment).dirty(
      position.offset.value() / kBlockSize);
}

bool IsHitAt(ImageCore& core, uint64_t media_sector) {
  const CachePosition position = core.payload().PositionOf(media_sector);
  return core.table().segment(position.segment).hit(
      position.offset.value() / kBlockSize);
}

// The key set whose key put there what stands at `position`. Blocks are given
// out once in a life of their segment, so there is one. Reclaim may take the log
// away meanwhile: then nothing is found.
std::optional<SequenceNumber> FindKeySet(ImageCore& core,
                                         const CachePosition& position,
                                         Generation generation) {
  LogReader reader(core.device(), core.table(),
                   {.image = core.tag(),
                    .image_size = core.size(),
                    .position = core.tails().key_tail(),
                    .min_incarnation = core.tails().tail_incarnation()});
  const SequenceNumber last = core.log().last();
  while (reader.position().sequence <= last) {
    const SequenceNumber sequence = reader.position().sequence;
    const absl::StatusOr<KeySetView> set = reader.Next();
    if (!set.ok()) return std::nullopt;
    KeySetView::Cursor cursor(*set);
    while (cursor.Next()) {
      const Key& key = cursor.key();
      if (!HasPayload(key.kind) || key.generation != generation ||
          key.position.segment != position.segment) {
        continue;
      }
      const uint64_t begin = key.position.offset.value();
      const uint64_t end = begin + PayloadBlocks(key) * kBlockSize;
      const uint64_t at = position.offset.value();
      if (begin <= at && at < end) return sequence;
    }
  }
  return std::nullopt;
}

PlaceInImage::Kind KindOf(PieceSource source) {
  switch (source.kind()) {
    case PieceSource::Kind::kPayload:
      return PlaceInImage::Kind::kCached;
    case PieceSource::Kind::kZero:
      return PlaceInImage::Kind::kZero;
    case PieceSource::Kind::kLost:
      break;
  }
  return PlaceInImage::Kind::kLost;
}

// Adds a piece to the cells it lies in. The dirty mark is per block, which may
// hold the sectors of one piece only in part.
void AddPiece(ImageCore& core, uint32_t shard, const KeyIndex::Piece& piece,
              ImageMap& map) {
  const uint64_t begin = ImageOffsetOf(shard, piece.start).value();
  const uint64_t end = begin + uint64_t{piece.length} * kSectorSize;
  for (uint64_t at = begin; at < end;) {
    const uint64_t next = std::min(end, (at / kBlockSize + 1) * kBlockSize);
    MapCell& cell = map.cells[at / map.cell_size];
    switch (piece.source.kind()) {
      case PieceSource::Kind::kPayload: {
        cell.cached_bytes += next - at;
        const uint64_t sector =
            piece.source.Advanced((at - begin) / kSectorSize).media_sector();
        if (IsDirtyAt(core, sector)) cell.dirty_bytes += next - at;
        if (IsHitAt(core, sector)) cell.hot_bytes += next - at;
        break;
      }
      case PieceSource::Kind::kZero:
        cell.zero_bytes += next - at;
        break;
      case PieceSource::Kind::kLost:
        cell.lost_bytes += next - at;
        break;
    }
    at = next;
  }
}

}  // namespace

const char* Name(PlaceInImage::Kind kind) {
  switch (kind) {
    case PlaceInImage::Kind::kBacking:
      return "backing";
    case PlaceInImage::Kind::kCached:
      return "cached";
    case PlaceInImage::Kind::kZero:
      return "zero";
    case PlaceInImage::Kind::kLost:
      return "lost";
  }
  return "";
}

absl::StatusOr<PlaceInImage> ExplainPlace(CachedImage& image,
                                          ImageOffset offset) {
  ImageCore& core = image.core();
  if (offset.value() >= image.size()) {
    return absl::OutOfRangeError(
        absl::StrCat("image ", image.name(), ": got offset ", offset.value(),
                     ", want less than its size, ", image.size()));
  }
  const uint64_t sector = offset.value() / kSectorSize * kSectorSize;
  const uint64_t stripe = sector / kStripeSize * kStripeSize;
  const ImageRange range = {ImageOffset(stripe),
                            std::min(kStripeSize, image.size() - stripe)};
  PlaceInImage place;
  SegmentPin pin;
  ForEachSlice(range, [&](const ShardSlice& slice) {
    Shard& shard = core.shards()[slice.shard];
    const auto local = static_cast<uint32_t>(
        slice.start + (sector - slice.offset.value()) / kSectorSize);
    uint32_t gap_begin = slice.start;
    uint32_t gap_end = slice.start + slice.length;
    absl::MutexLock lock(&shard.mutex);
    shard.index.Visit(
        slice.start, slice.length, [&](const KeyIndex::Piece& piece) {
          const uint32_t end = piece.start + piece.length;
          if (end <= local) gap_begin = end;
          if (piece.start > local) gap_end = std::min(gap_end, piece.start);
          if (piece.start > local || end <= local) return;
          place.kind = KindOf(piece.source);
          place.range = {slice.OffsetOf(piece.start),
                         uint64_t{piece.length} * kSectorSize};
          if (place.kind != PlaceInImage::Kind::kCached) return;
          const uint64_t media =
              piece.source.Advanced(local - piece.start).media_sector();
          place.position = core.payload().PositionOf(media);
          place.is_dirty = IsDirtyAt(core, media);
          place.is_hit = IsHitAt(core, media);
          Segment& segment = core.table().segment(place.position.segment);
          place.generation = segment.generation();
          segment.Pin();
          pin = SegmentPin(&segment);
        });
    if (place.kind == PlaceInImage::Kind::kBacking) {
      place.range = {slice.OffsetOf(gap_begin),
                     uint64_t{gap_end - gap_begin} * kSectorSize};
    }
  });
  if (place.kind == PlaceInImage::Kind::kCached) {
    std::array<std::byte, kSectorSize> bytes;
    place.checksum = core.payload().Read(place.position, bytes);
    place.key_set = FindKeySet(core, place.position, place.generation);
    if (place.key_set && place.is_dirty) {
      place.age = core.AgeOf(*place.key_set);
    }
  }
  return place;
}

ImageMap DrawImageMap(CachedImage& image, size_t cell_count) {
  ImageCore& core = image.core();
  cell_count = std::clamp<size_t>(cell_count, 1, kMaxMapCells);
  ImageMap map;
  const uint64_t blocks = (image.size() + kBlockSize - 1) / kBlockSize;
  map.cell_size = std::max<uint64_t>(1, (blocks + cell_count - 1) /
                                            cell_count) * kBlockSize;
  map.cells.resize((image.size() + map.cell_size - 1) / map.cell_size);
  for (uint32_t i = 0; i < kShardCount; ++i) {
    Shard& shard = core.shards()[i];
    absl::MutexLock lock(&shard.mutex);
    shard.index.VisitAll([&](const KeyIndex::Piece& piece) {
      AddPiece(core, i, piece, map);
    });
  }
  return map;
}

}  // namespace pcachefs
