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

}  // namespace pcachefs
