// Keeps changes of an image out while its mode changes. Who is inside may count
// on the mode: it changes only while the gate is closed and nobody is inside.

#ifndef PCACHEFS_CORE_MODE_GATE_H_
#define PCACHEFS_CORE_MODE_GATE_H_

#include <atomic>
#include <cstdint>

namespace pcachefs {

// Thread-safe; never waits.
class ModeGate {
 public:
  // False: closed, come back when the write path is run again. Else Leave()
  // when the change needs the mode no more.
  [[nodiscard]] bool Enter() {
    if (is_closed()) return false;
    if ((state_.fetch_add(1, std::memory_order_acq_rel) & kClosed) == 0) {
      return true;
    }
    state_.fetch_sub(1, std::memory_order_acq_rel);
    return false;
  }
  // True: the last one inside a closed gate has left.
  [[nodiscard]] bool Leave() {
    return state_.fetch_sub(1, std::memory_order_acq_rel) == (kClosed | 1);
  }

  void Close() { state_.fetch_or(kClosed, std::memory_order_acq_rel); }
  void Open() { state_.fetch_and(~kClosed, std::memory_order_acq_rel); }
  bool is_closed() const {
    return (state_.load(std::memory_order_acquire) & kClosed) != 0;
  }
  // Requires: closed. Nobody is inside.
  bool is_empty() const {
    return state_.load(std::memory_order_acquire) == kClosed;
  }

 private:
  static constexpr uint64_t kClosed = uint64_t{1} << 63;
  std::atomic<uint64_t> state_{0};
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_MODE_GATE_H_
