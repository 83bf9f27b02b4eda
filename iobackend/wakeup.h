// A signal that somebody waits for, with a bound in time. Bounds of absl's are
// by the wall clock (until its release 20230802): a clock that is set back by
// an hour while a thread waits for a second makes it wait for an hour.

#ifndef PCACHEFS_IOBACKEND_WAKEUP_H_
#define PCACHEFS_IOBACKEND_WAKEUP_H_

#include <condition_variable>
#include <mutex>

#include "absl/time/time.h"

namespace pcachefs {

// Thread-safe.
class Wakeup {
 public:
  void Set() {
    std::lock_guard<std::mutex> lock(mutex_);
    is_set_ = true;
    set_.notify_all();
  }

  void Clear() {
    std::lock_guard<std::mutex> lock(mutex_);
    is_set_ = false;
  }

  // True if it was set before or is set meanwhile; it stays set.
  bool WaitFor(absl::Duration timeout) {
    std::unique_lock<std::mutex> lock(mutex_);
    return set_.wait_for(lock, absl::ToChronoNanoseconds(timeout),
                         [this] { return is_set_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable set_;
  bool is_set_ = false;
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_WAKEUP_H_
