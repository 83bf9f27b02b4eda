// How many requests are unanswered, counted so that the counting threads do not
// meet: an orderly stop waits for zero.
//
// Thread-safe.

#ifndef PCACHEFS_FUSE_IN_FLIGHT_COUNTER_H_
#define PCACHEFS_FUSE_IN_FLIGHT_COUNTER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace pcachefs {

class InFlightCounter {
 public:
  // Sequentially consistent: a handler that began before the stopper looked is
  // seen by it, or sees that requests are refused.
  void Begin() { Slot().fetch_add(1); }
  // Release and acquire: who has seen zero sees all that came before the ends.
  void End() { Slot().fetch_sub(1, std::memory_order_release); }

  // Exact when nothing begins any more, else an estimate.
  int64_t count() const {
    int64_t sum = 0;
    for (const PaddedCount& slot : slots_) {
      sum += slot.count.load(std::memory_order_acquire);
    }
    return sum;
  }

  // True if the count fell to zero in time. The caller has seen to it that
  // nothing new begins.
  bool WaitUntilNone(absl::Duration timeout) const;

 private:
  static constexpr size_t kSlots = 64;
  struct alignas(64) PaddedCount {
    std::atomic<int64_t> count = 0;
  };

  // One that other threads seldom share; a request may end in another slot than
  // it began in, only the sum counts.
  std::atomic<int64_t>& Slot() {
    thread_local const size_t slot = next_slot_.fetch_add(1) % kSlots;
    return slots_[slot].count;
  }

  static inline std::atomic<size_t> next_slot_ = 0;
  std::array<PaddedCount, kSlots> slots_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_IN_FLIGHT_COUNTER_H_
