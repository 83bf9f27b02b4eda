// Group commit: everyone who waits for durability shares one Persist of the
// cache device.
//
// A write that returned before WriteTicket() was asked for is durable once
// Covered(ticket) is true.

#ifndef PCACHEFS_CORE_BARRIER_H_
#define PCACHEFS_CORE_BARRIER_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "iobackend/cache_device.h"

namespace pcachefs {

// Thread-safe. `device` outlives it.
class Barrier {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  explicit Barrier(CacheDevice& device) : device_(device) {}

  // Makes everything written before the call durable. Waits.
  absl::Status Persist();

  // The same without waiting: `done` runs later, in Step(). If the device's
  // Persist is cheap, and after Stop(), it waits and runs within the call.
  void PersistAsync(Done done);

  // Number of persists started: taken after a write, it tells in Covered()
  // whether that write is durable.
  uint64_t WriteTicket();
  bool Covered(uint64_t ticket);

  // Runs one persist for those waiting in PersistAsync and answers them; false
  // if there were none.
  bool Step();
  // Waits until Step() would find work or Stop() was called; false: stopped.
  bool WaitForWork();
  void Stop();

  // The first failure; nothing is promised after it (C9).
  absl::Status status();
  // Whether there was one; without a lock, for every request.
  bool failed() const { return failed_.load(std::memory_order_acquire); }

  // Marks the device failed for another reason (a lost write of the log).
  void Poison(absl::Status status);

  uint64_t persist_count();

 private:
  struct Waiter {
    uint64_t wanted;
    Done done;
  };

  void FailLocked(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasWork() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopped_ || !waiters_.empty();
  }

  CacheDevice& device_;
  absl::Mutex mutex_;
  // Persists are numbered from 1 and run one at a time.
  uint64_t started_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t completed_ ABSL_GUARDED_BY(mutex_) = 0;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> failed_{false};
  std::vector<Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_BARRIER_H_
