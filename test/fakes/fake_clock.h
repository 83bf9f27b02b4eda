// Virtual time: stands still until it is advanced.

#ifndef PCACHEFS_TEST_FAKES_FAKE_CLOCK_H_
#define PCACHEFS_TEST_FAKES_FAKE_CLOCK_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/clock.h"

namespace pcachefs {

// Thread-safe.
class FakeClock : public Clock {
 public:
  absl::Time Now() override {
    absl::MutexLock lock(&mutex_);
    return now_;
  }

  absl::Time WallNow() override {
    absl::MutexLock lock(&mutex_);
    return now_ + wall_offset_;
  }

  void Advance(absl::Duration duration) {
    absl::MutexLock lock(&mutex_);
    now_ += duration;
  }

  // Somebody sets the wall clock; Now() does not notice.
  void JumpWall(absl::Duration duration) {
    absl::MutexLock lock(&mutex_);
    wall_offset_ += duration;
  }

 private:
  absl::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1'000'000);
  // Far from Now(), so that mixing the two up shows.
  absl::Duration wall_offset_ ABSL_GUARDED_BY(mutex_) = absl::Hours(400'000);
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_FAKES_FAKE_CLOCK_H_
