#include "fuse/in_flight_counter.h"

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "iobackend/monotonic_time.h"

namespace pcachefs {

bool InFlightCounter::WaitUntilNone(absl::Duration timeout) const {
  const absl::Time deadline = MonotonicNow() + timeout;
  while (count() != 0) {
    if (MonotonicNow() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

}  // namespace pcachefs
