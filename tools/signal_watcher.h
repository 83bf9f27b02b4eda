// Turns SIGTERM and SIGINT into a call on a thread.

#ifndef PCACHEFS_TOOLS_SIGNAL_WATCHER_H_
#define PCACHEFS_TOOLS_SIGNAL_WATCHER_H_

#include <atomic>
#include <thread>

#include "absl/functional/any_invocable.h"

namespace pcachefs {

// The signals must be blocked in all threads: see BlockSignals.
class SignalWatcher {
 public:
  // Calls `stop` for each of them; SIGHUP, which a closing terminal sends, is
  // taken and forgotten.
  explicit SignalWatcher(absl::AnyInvocable<void()> stop);
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

  // In this thread and those that it starts later.
  static void BlockSignals();

 private:
  void Run();

  absl::AnyInvocable<void()> stop_;
  std::atomic<bool> is_ending_ = false;
  std::thread thread_;  // last
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SIGNAL_WATCHER_H_
