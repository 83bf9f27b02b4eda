#include "core/second_life.h"

#include <algorithm>
#include <memory>

#include "core/aligned_buffer.h"
#include "core/write_path.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Of the payload that reclaim passes, this much may be moved: the rest is what
// it gains. Bounds write amplification by two; more than this is hardly ever
// asked for (docs/reclaim.md).
constexpr uint64_t kMovablePercent = 50;

}  // namespace

void SecondLife::MoveHit(const Key& key, PieceSource source) {
  const uint64_t payload = PayloadBlocks(key) * kBlockSize;
  // What was saved up comes to no more than a segment, so that a stretch of hot
  // data does not stop reclaim for long.
  budget_ = std::min<uint64_t>(budget_ + payload * kMovablePercent / 100,
                               core_.table().geometry().segment_size());
  // Space that someone waits for is not spent on what may never be read again.
  if (core_.write_path().has_waiting()) return;
  ForEachSlice(key.range, [&](const ShardSlice& slice) {
    MoveSlice(slice,
              source.Advanced((slice.offset - key.range.offset) / kSectorSize));
  });
}

void SecondLife::MoveSlice(const ShardSlice& slice, PieceSource source) {
  Shard& shard = core_.shards()[slice.shard];
  auto placeholder = std::make_shared<Fill>();
  placeholder->range = slice.range();
  placeholder->arrived = true;
  Ranges ranges;
  {
    absl::MutexLock lock(&shard.mutex);
    ranges = ChooseLocked(shard, slice, source);
    if (ranges.empty()) return;
    shard.fills.push_back(placeholder);
  }
  const PendingKeys keys = Copy(slice, source, ranges);
  if (!keys.empty()) {
    // Overwritten meanwhile, or no room in the log: dropped as ever.
    if (PublishKeys(core_, slice.range(), keys, {&placeholder, 1}).ok()) {
      core_.counters().Add(Counter::kSecondLives, keys.size());
      for (const PendingKey& pending : keys) {
        core_.counters().Add(Counter::kSecondLifeBytes,
                             pending.key.range.length);
      }
    } else {
      AbandonPayload(core_, keys);
    }
  }
  absl::MutexLock lock(&shard.mutex);
  shard.ForgetFill(placeholder.get());
}

SecondLife::Ranges SecondLife::ChooseLocked(Shard& shard,
                                            const ShardSlice& slice,
                                            PieceSource source) {
  Ranges chosen;
  shard.index.Visit(
      slice.start, slice.length, [&](const KeyIndex::Piece& piece) {
        if (piece.source != source.Advanced(piece.start - slice.start)) return;
        const CachePosition position =
            core_.payload().PositionOf(piece.source.media_sector());
        const Segment& segment = core_.table().segment(position.segment);
        // Block by block: neighbours that were hit go together.
        ImageRange run;
        uint64_t at = 0;
        const uint64_t length = uint64_t{piece.length} * kSectorSize;
        while (at < length) {
          const uint64_t place = position.offset.value() + at;
          const uint64_t part =
              std::min(kBlockSize - place % kBlockSize, length - at);
          if (segment.hit(place / kBlockSize)) {
            if (run.empty()) run.offset = slice.OffsetOf(piece.start) + at;
            run.length += part;
          } else if (!run.empty()) {
            if (!Choose(run, chosen)) return;
            run = {};
          }
          at += part;
        }
        if (!run.empty()) Choose(run, chosen);
      });
  return chosen;
}

bool SecondLife::Choose(ImageRange part, Ranges& chosen) {
  // Whole blocks are written, however little of them is left.
  const uint64_t affordable = RoundDown(budget_, kBlockSize);
  if (affordable == 0) return false;
  part.length = std::min(part.length, affordable);
  budget_ -= std::min(budget_, RoundUp(part.length, kBlockSize));
  chosen.push_back(part);
  return true;
}

PendingKeys SecondLife::Copy(const ShardSlice& slice, PieceSource source,
                             const Ranges& ranges) {
  PendingKeys keys;
  for (const ImageRange& range : ranges) {
    AlignedBuffer buffer(range.length);
    const CachePosition position = core_.payload().PositionOf(
        source.Advanced((range.offset - slice.offset) / kSectorSize)
            .media_sector());
    if (!core_.payload().Read(position, buffer.span()).ok()) {
      core_.counters().Add(Counter::kChecksumErrors);
      continue;
    }
    if (!WritePayload(core_, KeyKind::kFill, range, buffer.span(), keys).ok()) {
      break;
    }
  }
  return keys;
}

}  // namespace pcachefs
