// What the mount does with requests for an image's bytes.
//
// Every function answers `reply` exactly once, on any thread. Offsets and
// lengths come from the kernel and are checked against the image here.
// Thread-safe.

#ifndef PCACHEFS_FUSE_IMAGE_REQUESTS_H_
#define PCACHEFS_FUSE_IMAGE_REQUESTS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/cached_image.h"
#include "fuse/fuse_reply.h"
#include "fuse/read_buffer.h"
#include "fuse/work_thread.h"
#include "meta/units.h"

namespace pcachefs {

class ImageRequests {
 public:
  // Longest part of a discard or write-zeroes that is done in one go.
  static constexpr uint64_t kPieceLength = 64 * kMiB;

  ImageRequests() : buffers_(kMaxReadBuffers) {}

  // Fewer bytes than asked for at the end of the image only.
  void Read(CachedImage& image, uint64_t offset, size_t length,
            FuseReply reply);

  // A short write at the end of the image, then ENOSPC. `bytes` is borrowed
  // during the call only, unless it is the reply's payload.
  void Write(CachedImage& image, uint64_t offset,
             std::span<const std::byte> bytes, FuseReply reply);

  void Flush(CachedImage& image, FuseReply reply);

  // `mode` as in fallocate(2). Punching holes discards, zeroing a range keeps
  // it allocated; allocating does nothing, since every byte has its place on
  // the backing device. An image never grows: ENOSPC.
  void Fallocate(CachedImage& image, int mode, uint64_t offset, uint64_t length,
                 FuseReply reply);

  // `whence` is SEEK_DATA or SEEK_HOLE.
  void Seek(CachedImage& image, uint64_t offset, int whence, FuseReply reply);

 private:
  static constexpr int kMaxReadBuffers = 128;

  ReadBufferPool buffers_;
  WorkThread seeker_;  // looking for holes may block
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_IMAGE_REQUESTS_H_
