#include "core/status.h"

namespace pcachefs {

const char* Name(HealthState state) {
  switch (state) {
    case HealthState::kRunning:
      return "running";
    case HealthState::kStalled:
      return "stalled";
    case HealthState::kDegraded:
      return "degraded";
    case HealthState::kReadOnly:
      return "read-only";
    case HealthState::kFailed:
      return "failed";
  }
  return "unknown";
}

double ImageStatus::Latency::Quantile(double part) const {
  const double wanted = part * static_cast<double>(count());
  uint64_t passed = 0;
  for (int bucket = 0; bucket < kBuckets; ++bucket) {
    passed += counts[bucket];
    if (passed > 0 && static_cast<double>(passed) >= wanted) {
      return Bound(bucket);
    }
  }
  return 0;
}

}  // namespace pcachefs
