// One image: a backing device with its part of the cache in front.
//
// Owned by the Cache that attached it; valid until it is detached or the cache
// closed. Thread-safe. This is what fuse/ calls.
//
//   image->Write(range, bytes, [](absl::Status status) { reply(status); });
//
// Every request calls its `done` exactly once, with no lock held: within the
// call when it can be answered at once (hits, writes that find space), else on
// a thread of a device's or of the cache's. A buffer is borrowed until its
// `done` has been destroyed, not only called: a miss is answered first and
// copied into the cache from the same buffer afterwards. So let `done` own it.

#ifndef PCACHEFS_CORE_CACHED_IMAGE_H_
#define PCACHEFS_CORE_CACHED_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/hit_view.h"
#include "core/image_settings.h"
#include "core/status.h"
#include "meta/key_set.h"
#include "meta/types.h"

namespace pcachefs {

class ImageCore;  // core/image_core.h: what the paths share

class CachedImage {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  explicit CachedImage(std::unique_ptr<ImageCore> core);
  ~CachedImage();
  CachedImage(const CachedImage&) = delete;
  CachedImage& operator=(const CachedImage&) = delete;

  const std::string& name() const;
  ImageId id() const;
  uint64_t size() const;  // bytes
  bool read_only() const;

  // Fills `out` with range.length bytes; any byte range within the image.
  // DataLoss where dirty data was lost on the cache device; Unavailable when
  // the backing device failed; OutOfRange beyond size(). With kUntilAnswered
  // the buffer is somebody else's as soon as `done` has been called (the
  // transport's own memory): bytes for the cache are copied out before that.
  enum class Buffer { kUntilDestroyed, kUntilAnswered };
  void Read(ImageRange range, std::span<std::byte> out, Done done,
            Buffer buffer = Buffer::kUntilDestroyed);

  // Another way to read hits, where the cache device is mapped memory. Requires:
  // the range lies within the image and is not empty.
  HitView ViewHit(ImageRange range) { return HitView(*core_, range); }

  // OK: every reader sees the bytes, and a death of this process does not lose
  // them; durable after a later Flush. Any byte range within the image; ranges
  // that are not whole sectors are read, modified and written as one atomic
  // step (beyond 64 KiB: each edge is). May be answered later, when the cache is
  // full; `payload` says whether `bytes` lives that long or must be copied when
  // the answer has to wait. OutOfRange beyond size(); FailedPrecondition on a
  // read-only image; Unavailable when the cache device failed.
  enum class Payload { kCopyIfWaiting, kBorrowUntilDone };
  void Write(ImageRange range, std::span<const std::byte> bytes,
             Payload payload, Done done);

  // The range reads as zeroes; logged and ordered like a write, any byte range
  // (edges that are not whole sectors are written as zeroes). Discard gives the
  // space on the backing device up, Zero keeps it allocated.
  void Discard(ImageRange range, Done done);
  void Zero(ImageRange range, Done done);

  // OK: everything acknowledged before the call survives a power cut.
  // Concurrent calls share one barrier; no barrier when nothing is new. In modes
  // that go around the cache it flushes the backing device.
  void Flush(Done done);

  // The longest stretch known to begin at `offset` and be wholly data or wholly
  // hole, cache and backing device taken together. May block.
  struct Extent {
    uint64_t length = 0;
    bool is_hole = false;
  };
  absl::StatusOr<Extent> FindExtent(ImageOffset offset);

  // Bytes that are not holes, for st_blocks; an estimate that is exact when
  // nothing is dirty.
  uint64_t allocated_bytes();

  // Writes all dirty data back. Ends also under load: with `done` once
  // everything that was dirty at the call is on the backing device and flushed.
  // The first error that does not go away by itself ends it too.
  void Drain(Done done);

  ImageStatus status();

  // Changes the mode while the image is in use (core/mode_switch.h); `done` runs
  // when the new one counts, durably. May take long: what is dirty must reach
  // the backing device before writes can go around the cache. An error leaves
  // the mode as it was. FailedPrecondition: read-only, or another switch.
  void SetMode(CacheMode mode, Done done);

  // Durable when it returns, and counts from then on. InvalidArgument names
  // the setting; errors of the cache device.
  absl::Status Change(const ImageChanges& changes);

  ImageCore& core() { return *core_; }

 private:
  void Erase(ImageRange range, KeyKind kind, Done done);

  std::unique_ptr<ImageCore> core_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_CACHED_IMAGE_H_
