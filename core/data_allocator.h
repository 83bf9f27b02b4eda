// Hands out payload blocks: append cursors in open segments.

#ifndef PCACHEFS_CORE_DATA_ALLOCATOR_H_
#define PCACHEFS_CORE_DATA_ALLOCATOR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "core/image_space.h"
#include "core/segment_table.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {

// Blocks that belong to the caller. They come with one reference on the
// segment, which becomes the key's when the key is published; whoever does not
// publish drops it.
struct Allocation {
  SegmentId segment;
  Generation generation;
  uint32_t first_block = 0;
  uint32_t block_count = 0;

  CachePosition position() const {
    return {segment, SegmentOffset(first_block * kBlockSize)};
  }
};

// Thread-safe. `space` outlives it.
class DataAllocator {
 public:
  // `cursor_count`: segments open at a time, so that writers on different
  // processors do not meet on one lock.
  DataAllocator(ImageSpace& space, uint32_t cursor_count);

  // Up to `block_count` blocks that lie side by side, at least one: callers
  // loop. ResourceExhausted if the share is used up; errors of the device. What
  // is carried has a segment of its own, so that requests do not fill it.
  absl::StatusOr<Allocation> Allocate(
      uint32_t block_count,
      AllocationPurpose purpose = AllocationPurpose::kRequest);

  // Bytes left in the segment that is open for what is carried.
  uint64_t carry_rest();

  // Drops an allocation that no key names.
  void Abandon(const Allocation& allocation);

  // Closes the open segments, so that they can be freed once their keys are
  // reclaimed: at the end, and when space is so short that the rest of an open
  // segment must not be kept.
  void CloseCursors();

 private:
  struct alignas(64) Cursor {
    absl::Mutex mutex;
    bool open ABSL_GUARDED_BY(mutex) = false;
    SegmentId segment ABSL_GUARDED_BY(mutex);
    uint32_t next_block ABSL_GUARDED_BY(mutex) = 0;
  };

  void CloseLocked(Cursor& cursor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(cursor.mutex);

  ImageSpace& space_;
  // The last one for what is carried.
  std::vector<std::unique_ptr<Cursor>> cursors_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_DATA_ALLOCATOR_H_
