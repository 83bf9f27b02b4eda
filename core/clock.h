// Time as core/ sees it: injected, so that a test or the simulator owns it.

#ifndef PCACHEFS_CORE_CLOCK_H_
#define PCACHEFS_CORE_CLOCK_H_

#include <cstdint>

#include "absl/time/time.h"

namespace pcachefs {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // Monotonic: never goes back, unrelated to the wall clock.
  virtual absl::Time Now() = 0;

  // The same in nanoseconds, as cheap as it can be: for latencies.
  virtual int64_t NowNanos() { return absl::ToUnixNanos(Now()); }

  // For records that people read. May jump.
  virtual absl::Time WallNow() = 0;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_CLOCK_H_
