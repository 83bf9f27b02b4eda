#include "core/writeback_pace.h"

#include <algorithm>

#include "meta/units.h"

namespace pcachefs {

uint64_t WritebackPace::NextBatch(uint64_t most, bool urgent) {
  rate_ = urgent ? 0 : Rate();
  if (rate_ == 0) return most;
  if (clock_.Now() < not_before_) return 0;
  const auto allowed = static_cast<uint64_t>(
      static_cast<double>(rate_) * absl::ToDoubleSeconds(kBatchTime));
  return std::min(most, std::max<uint64_t>(allowed, kBlockSize));
}

void WritebackPace::Began(uint64_t bytes) {
  if (rate_ == 0) return;
  // From the time it was due, not from now: being woken late costs no rate,
  // unless it was so late that nothing was due.
  const absl::Time now = clock_.Now();
  not_before_ = std::max(not_before_, now - kBatchTime) +
                absl::Seconds(static_cast<double>(bytes) /
                              static_cast<double>(rate_));
}

uint64_t WritebackPace::Rate() {
  const uint64_t floor = settings_.writeback_rate_floor();
  const bool idle = IsIdle();
  return floor == 0 || idle ? settings_.writeback_rate_ceiling() : floor;
}

bool WritebackPace::IsIdle() {
  const absl::Time now = clock_.Now();
  const uint64_t requests =
      counters_.Sum(Counter::kReads) + counters_.Sum(Counter::kWrites);
  if (requests != requests_seen_) {
    requests_seen_ = requests;
    last_request_ = now;
  }
  return now - last_request_ >= kIdleAfter;
}

}  // namespace pcachefs
