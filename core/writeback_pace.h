// How fast writeback may go: the settings writeback_rate (a ceiling),
// writeback_rate_floor (what it keeps to while the image is in use, so that
// users have the backing device for themselves; it speeds up when they are
// idle), and max_dirty_age, which overrides both.

#ifndef PCACHEFS_CORE_WRITEBACK_PACE_H_
#define PCACHEFS_CORE_WRITEBACK_PACE_H_

#include <cstdint>

#include "absl/time/time.h"
#include "core/clock.h"
#include "core/counters.h"
#include "core/image_settings.h"

namespace pcachefs {

// Not thread-safe: used by one Step after the other.
class WritebackPace {
 public:
  // An image without requests for so long is idle.
  static constexpr absl::Duration kIdleAfter = absl::Milliseconds(500);
  // Paced batches are as large as what this long allows.
  static constexpr absl::Duration kBatchTime = absl::Milliseconds(250);

  WritebackPace(Clock& clock, const LiveSettings& settings,
                const Counters& counters)
      : clock_(clock), settings_(settings), counters_(counters) {}

  // Bytes that the next batch may hold, 0 if none may begin yet; at most
  // `most`. `urgent`: somebody waits, so no setting counts.
  uint64_t NextBatch(uint64_t most, bool urgent);

  // A batch of so many bytes was begun.
  void Began(uint64_t bytes);

 private:
  // Bytes per second; 0: as fast as it goes.
  uint64_t Rate();
  bool IsIdle();

  Clock& clock_;
  const LiveSettings& settings_;
  const Counters& counters_;
  uint64_t rate_ = 0;  // of the batch that NextBatch allowed
  absl::Time not_before_ = absl::InfinitePast();
  uint64_t requests_seen_ = 0;
  absl::Time last_request_ = absl::InfinitePast();
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_WRITEBACK_PACE_H_
