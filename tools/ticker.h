// Calls something again and again on a thread of its own.

#ifndef PCACHEFS_TOOLS_TICKER_H_
#define PCACHEFS_TOOLS_TICKER_H_

#include <thread>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "iobackend/wakeup.h"

namespace pcachefs {

class Ticker {
 public:
  // At once, and then `period` after each end of it.
  Ticker(absl::Duration period, absl::AnyInvocable<void()> tick)
      : thread_([this, period, tick = std::move(tick)]() mutable {
          do {
            tick();
          } while (!must_end_.WaitFor(period));
        }) {}
  // Waits for a call that is under way.
  ~Ticker() {
    must_end_.Set();
    thread_.join();
  }
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;

 private:
  Wakeup must_end_;
  std::thread thread_;  // last
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_TICKER_H_
