// Writes, discards and write-zeroes of one image, and those that wait for space.
//
// plan: take payload blocks; I/O: copy into them; commit: PublishKeys. A write
// that finds no space waits in line, first come first served, until reclaim has
// freed some (C11); whole sectors written later do not overtake it. While the
// mode changes everybody waits in line.
//
// In modes that go around the cache a change is handed to AroundPath.

#ifndef PCACHEFS_CORE_WRITE_PATH_H_
#define PCACHEFS_CORE_WRITE_PATH_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "core/cached_image.h"
#include "core/image_core.h"
#include "core/publish.h"
#include "meta/key_set.h"
#include "meta/types.h"

namespace pcachefs {

// Thread-safe. `core` outlives it.
class WritePath {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  explicit WritePath(ImageCore& core) : core_(core) {}

  // As CachedImage has them; ranges are checked and not empty. `kind` is kZero
  // or kDiscard.
  void Write(ImageRange range, std::span<const std::byte> bytes,
             CachedImage::Payload payload, Done done);
  void Erase(ImageRange range, KeyKind kind, Done done);

  bool has_waiting() const {
    return waiting_count_.load(std::memory_order_relaxed) != 0;
  }

  // How many of those who waited were served.
  uint64_t served() const { return served_.load(std::memory_order_relaxed); }

  // Tries those who wait again, in order, until one must wait on. True if any
  // was served.
  bool RunWaiting();

  // Every waiter has his turn once more; who must wait on is answered with
  // `status`.
  void RefuseWaiting(const absl::Status& status);

  // No further waiting: every waiter is answered with `status`.
  void FailWaiting(const absl::Status& status);

 private:
  // A request that can be tried again. `attempt` answers false while it must
  // wait; otherwise it has answered its requester. It is called with an error
  // when there is nothing to wait for any more, and must answer then.
  using Attempt = absl::AnyInvocable<bool(const absl::Status&)>;
  struct Request;
  friend class UnalignedWrite;

  // Answers a write that began at `began`.
  void Answer(int64_t began, absl::Status status, Done done);
  Done AnswerLater(int64_t began, Done done);

  // A write that no one has to wait for: nothing is allocated for it. False: it
  // must wait or goes around the cache. `admitted`: the throttle has let it in.
  bool TryAtOnce(ImageRange range, std::span<const std::byte> bytes,
                 bool& admitted, absl::Status& status);
  // What is left to do if that was false.
  void WriteLater(ImageRange range, std::span<const std::byte> bytes,
                  CachedImage::Payload payload, bool admitted, Done done);

  void TryOrWait(Attempt attempt);
  // What is not sector-aligned, or too large, in parts.
  void WriteParts(ImageRange range, std::span<const std::byte> bytes,
                  CachedImage::Payload payload, Done done);
  void WriteSectors(ImageRange range, std::span<const std::byte> bytes,
                    CachedImage::Payload payload, Done done);
  void WriteUnaligned(ImageRange range, std::span<const std::byte> bytes,
                      Done done);
  uint64_t LargestWrite() const;
  void EraseAligned(ImageRange range, KeyKind kind, Done done);

  // A change of whole sectors, by whatever way the mode wants. False: it must
  // wait, nothing was done.
  bool TryRequest(const std::shared_ptr<Request>& request);
  void WaitInLine(std::shared_ptr<Request> request);
  // Into the cache. ResourceExhausted: it must wait.
  absl::Status TryChange(KeyKind kind, ImageRange range,
                         std::span<const std::byte> bytes,
                         std::span<const std::shared_ptr<Fill>> placeholders);

  ImageCore& core_;
  absl::Mutex mutex_;
  std::deque<Attempt> waiting_ ABSL_GUARDED_BY(mutex_);
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<size_t> waiting_count_{0};
  std::atomic<uint64_t> served_{0};
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_WRITE_PATH_H_
