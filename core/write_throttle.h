// Slows writers down before the cache is full of dirty data, so that they go at
// the backing device's speed without ever standing still: the last quarter
// below the limit is a zone in which a write is admitted for what writeback has
// brought to the backing device, twice as much at the lower end and nothing at
// the limit, which settles in between. A write waits there no longer than
// kMaxDelay; at the limit it waits until something was written back.
//
// The limit is max_dirty, or what the image's share holds less an eighth.

#ifndef PCACHEFS_CORE_WRITE_THROTTLE_H_
#define PCACHEFS_CORE_WRITE_THROTTLE_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "core/clock.h"
#include "core/image_settings.h"
#include "core/image_space.h"
#include "meta/units.h"

namespace pcachefs {

// Thread-safe, without locks. What it refers to outlives it.
class WriteThrottle {
 public:
  static constexpr absl::Duration kMaxDelay = absl::Milliseconds(100);

  WriteThrottle(Clock& clock, const LiveSettings& settings,
                const ImageSpace& space, uint64_t segment_size,
                bool is_on = true)
      : clock_(clock),
        settings_(settings),
        space_(space),
        segment_size_(segment_size),
        is_on_(is_on) {}

  // Payload blocks that were logged and those that became clean. A write that
  // covers part of a block takes a whole one.
  void AddDirty(uint64_t blocks) { dirty_blocks_ += blocks; }
  void RemoveDirty(uint64_t blocks) { dirty_blocks_ -= blocks; }
  uint64_t dirty_payload_bytes() const { return dirty_blocks_ * kBlockSize; }

  // Whether a write of so many bytes may go on. `since`: when it asked first;
  // the infinite future if it asks now.
  bool Admit(uint64_t bytes, absl::Time since = absl::InfiniteFuture()) {
    return !in_zone() || AdmitInZone(bytes, since);
  }

  // Writers are being slowed down.
  bool in_zone() const {
    return is_on_ && dirty_payload_bytes() >= Limit() / 4 * 3;
  }

  // So many bytes have reached the backing device.
  void Credit(uint64_t bytes);

 private:
  uint64_t Limit() const;
  bool AdmitInZone(uint64_t bytes, absl::Time since);

  Clock& clock_;
  const LiveSettings& settings_;
  const ImageSpace& space_;
  const uint64_t segment_size_;
  const bool is_on_;  // false: nothing is ever written back
  std::atomic<uint64_t> dirty_blocks_{0};
  std::atomic<uint64_t> credit_{0};  // bytes
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_WRITE_THROTTLE_H_
