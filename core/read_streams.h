// Tells sequential readers from others, a few at a time, by their misses alone:
// a hit never comes here. Pure but for a lock; no I/O, no clock.

#ifndef PCACHEFS_CORE_READ_STREAMS_H_
#define PCACHEFS_CORE_READ_STREAMS_H_

#include <array>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {

// Thread-safe.
class ReadStreams {
 public:
  // A reader is sequential from his third miss in a row on. Between two of them
  // he may leave out this much, or come back by it: requests of one reader
  // overtake each other on their way here.
  static constexpr int kFirstSequential = 3;
  static constexpr uint64_t kSlack = 128 * kKiB;
  // The first window read ahead; each is twice as long as the one before it.
  static constexpr uint64_t kFirstWindow = 128 * kKiB;

  // What a miss is a part of.
  struct Stream {
    // Bytes that this reader has read in a row, what was read ahead for him
    // included; with what he asks for now.
    uint64_t length = 0;
    // To be read ahead; empty if nothing is.
    ImageRange window;
  };

  // Notes a read of `range` of which some missed. No window is longer than
  // `max_window` (0: none), nor does one begin when the stream is longer than
  // `max_length`.
  Stream OnMiss(ImageRange range, uint64_t image_size, uint64_t max_window,
                uint64_t max_length);

 private:
  static constexpr int kStreams = 16;

  struct Entry {
    uint64_t next = 0;    // where the reader or his window ended
    uint64_t length = 0;  // 0: not in use
    uint64_t window = 0;  // bytes of the last one
    int reads = 0;
    uint64_t last_use = 0;
  };

  Entry& Find(ImageRange range) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  std::array<Entry, kStreams> entries_ ABSL_GUARDED_BY(mutex_);
  uint64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_READ_STREAMS_H_
