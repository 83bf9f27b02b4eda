#include "fuse/in_flight_counter.h"

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace pcachefs {

bool InFlightCounter::WaitUntilNone(absl::Duration timeout) const {
  const absl::Time deadline = absl::Now() + timeout;
  while (count() != 0) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

}  // namespace pcachefs
