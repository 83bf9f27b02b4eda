// The part of a read that has to wait: misses, and hits that the cache device
// must fetch from its media.

#ifndef PCACHEFS_CORE_READ_OPERATION_H_
#define PCACHEFS_CORE_READ_OPERATION_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "core/cached_image.h"
#include "core/image_core.h"
#include "core/shard.h"
#include "iobackend/backing_device.h"
#include "meta/types.h"

namespace pcachefs {

// Kept alive by the parts in flight; answers when the last of them arrives and
// gives the buffer back (destroys `done`) when the fills have used it too.
class ReadOperation : public std::enable_shared_from_this<ReadOperation> {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  // `began`: nanoseconds of the clock at the request.
  ReadOperation(ImageCore& core, ImageRange range, std::span<std::byte> out,
                CachedImage::Buffer buffer, int64_t began, Done done)
      : core_(core),
        range_(range),
        out_(out),
        buffer_(buffer),
        began_(began),
        done_(std::move(done)) {}

  // Whether misses become fills.
  enum class Keep { kFill, kBypass };

  // Adds a range, within one stripe, that the index of `shard` does not hold:
  // parts of it that someone else is reading are waited for, the rest becomes
  // reads of our own, with placeholders. The index must have been asked under
  // the same hold of the lock: a write in between would be undone by the fill.
  void AddMiss(Shard& shard, ImageRange miss, Keep keep)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex);

  // The same for a range that nobody has asked for yet; false if someone is
  // reading a part of it already.
  bool AddReadAhead(Shard& shard, ImageRange gap)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex);

  // Adds a read of something else into our buffer; the callback is to be run
  // when it is there.
  Done AddPart();

  // Bytes of the buffer that belong to `part`.
  std::span<std::byte> Buffer(ImageRange part) {
    return out_.subspan(part.offset - range_.offset, part.length);
  }

  // Everything was added: starts the backing reads.
  void Start();

 private:
  // Of someone else, under the lock of its shard.
  void WaitFor(Fill& fill, ImageRange shared);
  BackingRequest RequestFor(ImageRange miss, std::shared_ptr<Fill> fill);

  void OnRead(ImageRange miss, const std::shared_ptr<Fill>& fill,
              absl::Status status);
  void FillCache(const std::shared_ptr<Fill>& fill,
                 std::span<const std::byte> bytes);
  void PartDone(absl::Status status);
  Shard& ShardOf(const Fill& fill);

  ImageCore& core_;
  const ImageRange range_;
  const std::span<std::byte> out_;
  const CachedImage::Buffer buffer_;
  const int64_t began_;
  Keep keep_ = Keep::kFill;
  bool is_read_ahead_ = false;
  std::vector<BackingRequest> requests_;
  std::atomic<int> pending_{1};  // the starter counts as one
  absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  Done done_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_READ_OPERATION_H_
