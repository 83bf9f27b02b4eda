#include "core/write_throttle.h"

#include <algorithm>

namespace pcachefs {

uint64_t WriteThrottle::Limit() const {
  const uint64_t share = space_.share();
  const uint64_t room =
      (share - std::min<uint64_t>(share, kLogReserve)) * segment_size_;
  const uint64_t limit = room - room / 8;
  const uint64_t wanted = settings_.max_dirty();
  return wanted == 0 ? limit : std::min(wanted, limit);
}

bool WriteThrottle::AdmitInZone(uint64_t bytes, absl::Time since) {
  // Also max_dirty of less than one write lets one at a time through.
  const uint64_t dirty = dirty_payload_bytes();
  if (dirty == 0) return true;
  if (dirty >= Limit()) return false;
  if (clock_.Now() - since >= kMaxDelay) return true;
  uint64_t credit = credit_;
  do {
    if (credit < bytes) return false;
  } while (!credit_.compare_exchange_weak(credit, credit - bytes));
  return true;
}

void WriteThrottle::Credit(uint64_t bytes) {
  const uint64_t limit = Limit();
  const uint64_t zone = std::max<uint64_t>(limit / 4, 1);
  const uint64_t left = limit - std::min(limit, dirty_payload_bytes());
  const double factor =
      2.0 * static_cast<double>(std::min(left, zone)) / static_cast<double>(zone);
  const auto gain = static_cast<uint64_t>(static_cast<double>(bytes) * factor);
  // What was saved up while nobody was held back must not become a burst.
  const uint64_t most = std::max<uint64_t>(zone / 4, kMiB);
  uint64_t credit = credit_;
  while (!credit_.compare_exchange_weak(credit,
                                        std::min(most, credit + gain))) {
  }
}

}  // namespace pcachefs
