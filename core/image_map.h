// What the cache holds of an image, for people who ask: one place, or all of it
// in a few cells. Looks at the index as it is; requests go on meanwhile.

#ifndef PCACHEFS_CORE_IMAGE_MAP_H_
#define PCACHEFS_CORE_IMAGE_MAP_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/cached_image.h"
#include "meta/types.h"

namespace pcachefs {

// The stretch around one place that is served in one way.
struct PlaceInImage {
  enum class Kind {
    kBacking,  // not in the cache
    kCached,
    kZero,     // known to be zeroes, discarded or written so
    kLost,     // dirty data that the cache device lost: reads answer EIO
  };
  Kind kind = Kind::kBacking;
  ImageRange range;
  // The rest is of kCached.
  bool is_dirty = false;
  CachePosition position;  // of the place asked for, rounded to its sector
  Generation generation;   // of the segment
  absl::Status checksum;   // of its block
  bool is_hit = false;     // its block, since it was written
  // The key set that put it there, and how long ago at least, within a second or
  // so; not told of keys that reclaim took out of the log meanwhile, nor ages of
  // what is clean.
  std::optional<SequenceNumber> key_set;
  std::optional<absl::Duration> age;
};
const char* Name(PlaceInImage::Kind kind);

// OutOfRange beyond the end. Reads a sector of the cache device, and the log
// until it finds the key.
absl::StatusOr<PlaceInImage> ExplainPlace(CachedImage& image,
                                          ImageOffset offset);

struct MapCell {
  uint64_t cached_bytes = 0;  // payload, dirty or not
  uint64_t dirty_bytes = 0;
  uint64_t hot_bytes = 0;     // of cached: hit since they were written
  uint64_t zero_bytes = 0;
  uint64_t lost_bytes = 0;
};

// Cells of the same size, the last one smaller; at most kMaxMapCells. Takes
// each shard's lock once, for as long as its part of the index is walked.
inline constexpr size_t kMaxMapCells = 1 << 16;
struct ImageMap {
  uint64_t cell_size = 0;  // bytes, a multiple of 4 KiB
  std::vector<MapCell> cells;
};
ImageMap DrawImageMap(CachedImage& image, size_t cell_count);

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_IMAGE_MAP_H_
