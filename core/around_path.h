// Writes, discards and write-zeroes that go to the backing device before they
// are acknowledged: modes writethrough, writearound and passthrough.
//
// What the cache holds of the range must be forgotten, durably, before the
// backing device changes: else a power cut brings it back, and it is stale. So:
// plan: under the shard locks, a key of kind forget if the index, or a forget
// that is not durable yet, says anything; a placeholder, so that nobody fills
// what he reads in the meantime. I/O: the barrier for that key, then the backing
// device. commit: writethrough publishes the bytes as a provisional key.
// Nothing of the range in the cache: no key and no barrier at all.
//
// Changes that overlap go one after the other, in the order they came.

#ifndef PCACHEFS_CORE_AROUND_PATH_H_
#define PCACHEFS_CORE_AROUND_PATH_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "core/image_core.h"
#include "core/publish.h"
#include "iobackend/backing_device.h"
#include "meta/key_set.h"
#include "meta/types.h"

namespace pcachefs {

// Thread-safe. `core` outlives it.
class AroundPath {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  // A write, discard or write-zeroes of whole sectors.
  struct Change {
    KeyKind kind = KeyKind::kWrite;  // or kZero, kDiscard
    ImageRange range;
    std::span<const std::byte> bytes;  // kWrite; borrowed until done
  };

  explicit AroundPath(ImageCore& core) : core_(core) {}

  // The caller is inside the gate until `done` runs. False: the log has no room
  // and nothing was done, `done` is not run; wait in line. `done` may say so
  // later with Cancelled; Aborted: nothing was done since one of `edges` was
  // overwritten. Else the answer; after an error of the backing device it may
  // hold any part of the change.
  [[nodiscard]] bool Start(const Change& change, Placeholders edges, Done done);

  // The user's flush: what was acknowledged is durable. An error also if a
  // flush failed that nobody asked for since the last call.
  void Flush(Done done);

  // Flushes the backing device only. Callers share flushes that begin later.
  void FlushBacking(Done done);
  // A flush of the cache's own failed. The system tells that once, so the next
  // user's flush must pass it on.
  void NoteFlushFailed() { flush_failed_ = true; }

  // The backing device is being closed: nothing is submitted to it any more.
  void Stop() { stopped_ = true; }

 private:
  class Operation;

  void OnEnd(const Operation* ended);
  void NoteForget();
  void StartFlush();
  void OnFlushed(const absl::Status& status);

  ImageCore& core_;
  std::atomic<uint64_t> last_forget_{0};  // key set with the newest forget
  std::atomic<bool> flush_failed_{false};
  std::atomic<bool> stopped_{false};
  absl::Mutex mutex_;
  // As they came; those that overlap an earlier one have not begun.
  std::list<std::shared_ptr<Operation>> operations_ ABSL_GUARDED_BY(mutex_);
  bool flushing_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Done> flush_next_ ABSL_GUARDED_BY(mutex_);
  std::vector<Done> flush_running_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_AROUND_PATH_H_
