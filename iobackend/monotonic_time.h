// Time for intervals and deadlines: never set, by nobody. absl::Now() is the
// wall clock, which an administrator, NTP or the host of a guest may set by
// hours: a deadline by it comes at once, or never.

#ifndef PCACHEFS_IOBACKEND_MONOTONIC_TIME_H_
#define PCACHEFS_IOBACKEND_MONOTONIC_TIME_H_

#include <chrono>

#include "absl/time/time.h"

namespace pcachefs {

// Unrelated to dates, though of the type of one.
inline absl::Time MonotonicNow() {
  return absl::UnixEpoch() +
         absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_MONOTONIC_TIME_H_
