// A hit served from the cache device's own memory, without a copy: for a
// transport that copies from anywhere.

#ifndef PCACHEFS_CORE_HIT_VIEW_H_
#define PCACHEFS_CORE_HIT_VIEW_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/container/inlined_vector.h"
#include "core/segment_table.h"
#include "core/shard.h"
#include "meta/types.h"

namespace pcachefs {

class ImageCore;

// Used by one thread. The image outlives it.
class HitView {
 public:
  using Part = std::span<const std::byte>;

  // Looks for the range (checked, not empty) and counts a read of it, if it is
  // wholly payload of mapped memory and every checksum is right. Else it is
  // empty, nothing was counted, and ReadPath is to be asked.
  HitView(ImageCore& core, ImageRange range);
  HitView(const HitView&) = delete;
  HitView& operator=(const HitView&) = delete;

  bool empty() const { return parts_.empty(); }

  // The bytes, in order. Valid as long as this object; what is written to the
  // image meanwhile does not show. Memory that fails after the look makes a
  // system call that copies from it fail, with EFAULT.
  std::span<const Part> parts() const { return parts_; }

 private:
  struct Piece {
    CachePosition position;
    uint64_t length;  // bytes
    SegmentPin pin;
  };

  // Pins what is cached of the slice; false if that is not all of it.
  bool Collect(ImageCore& core, const ShardSlice& slice);
  bool View(ImageCore& core);
  void Count(ImageCore& core, ImageRange range);

  absl::InlinedVector<Piece, 2> pieces_;
  absl::InlinedVector<Part, 2> parts_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_HIT_VIEW_H_
