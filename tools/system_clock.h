// The machine's clocks.

#ifndef PCACHEFS_TOOLS_SYSTEM_CLOCK_H_
#define PCACHEFS_TOOLS_SYSTEM_CLOCK_H_

#include <chrono>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/clock.h"
#include "iobackend/monotonic_time.h"

namespace pcachefs {

class SystemClock : public Clock {
 public:
  absl::Time Now() override { return MonotonicNow(); }
  int64_t NowNanos() override {
    return std::chrono::steady_clock::now().time_since_epoch().count();
  }
  absl::Time WallNow() override { return absl::Now(); }
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SYSTEM_CLOCK_H_
