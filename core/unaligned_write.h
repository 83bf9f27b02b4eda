// A write whose edges are not whole sectors: reads the edge sectors, puts the
// bytes in, writes whole sectors, and starts again if an edge was overwritten
// in between.

#ifndef PCACHEFS_CORE_UNALIGNED_WRITE_H_
#define PCACHEFS_CORE_UNALIGNED_WRITE_H_

#include <cstddef>
#include <memory>
#include <span>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/aligned_buffer.h"
#include "core/image_core.h"
#include "core/publish.h"
#include "core/write_path.h"
#include "meta/types.h"

namespace pcachefs {

// Lives until it has answered. `path` outlives it.
class UnalignedWrite : public std::enable_shared_from_this<UnalignedWrite> {
 public:
  // Copies `bytes`.
  UnalignedWrite(WritePath& path, ImageRange range,
                 std::span<const std::byte> bytes, WritePath::Done done);

  void Start();

 private:
  absl::InlinedVector<ImageRange, 2> Edges() const;
  void Watch(ImageRange edge);
  void Unwatch();
  void OnEdgesRead(absl::Status status);
  void Finish(absl::Status status);
  void Wait();

  WritePath& path_;
  ImageCore& core_;
  const ImageRange range_;
  const ImageRange whole_;
  const AlignedBuffer bytes_;
  AlignedBuffer buffer_;
  Placeholders placeholders_;
  const absl::Time since_;
  bool admitted_ = false;  // by the throttle
  bool retried_ = false;
  WritePath::Done done_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_UNALIGNED_WRITE_H_
