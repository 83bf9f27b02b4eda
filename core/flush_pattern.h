// Tells whether the users of an image flush after nearly every write.
//
// The kernel holds a FUSE file's lock during an fsync, so those who write and
// flush in parallel come to their barriers one by one: each waits for the others'
// and none is shared. Writes hold the lock together. Where nearly each write is
// followed by a flush anyway, one barrier before the writes are answered serves
// all that are on their way, and the flushes that follow find nothing to do.

#ifndef PCACHEFS_CORE_FLUSH_PATTERN_H_
#define PCACHEFS_CORE_FLUSH_PATTERN_H_

#include <atomic>
#include <cstdint>

namespace pcachefs {

// Thread-safe; a guess, which may be late by a few requests.
class FlushPattern {
 public:
  void NoteWrite() {
    if (writes_.fetch_add(1, std::memory_order_relaxed) >= kMostWrites) {
      expects_flush_.store(false, std::memory_order_relaxed);
    }
  }

  void NoteFlush() {
    if (flushes_.fetch_add(1, std::memory_order_relaxed) + 1 < kWindow) return;
    flushes_.store(0, std::memory_order_relaxed);
    const uint32_t writes = writes_.exchange(0, std::memory_order_relaxed);
    if (writes == 0) return;
    expects_flush_.store(writes <= kMostWrites, std::memory_order_relaxed);
  }

  // Whether a write had better be durable before it is answered.
  bool expects_flush() const {
    return expects_flush_.load(std::memory_order_relaxed);
  }

 private:
  // Looked at every so many flushes; for so many writes at most. Those who are
  // answered by one barrier come in step, all writes first and all flushes after:
  // a window is as many of both as may be on their way together.
  static constexpr uint32_t kWindow = 128;
  static constexpr uint32_t kMostWrites = 160;

  std::atomic<uint32_t> writes_{0};
  std::atomic<uint32_t> flushes_{0};
  std::atomic<bool> expects_flush_{false};
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_FLUSH_PATTERN_H_
