// The only thread class: repeats a step until it has nothing to do, then sleeps
// until it is kicked or a while has passed.

#ifndef PCACHEFS_CORE_BACKGROUND_WORKER_H_
#define PCACHEFS_CORE_BACKGROUND_WORKER_H_

#include <atomic>
#include <functional>
#include <thread>

#include "absl/time/time.h"
#include "iobackend/wakeup.h"

namespace pcachefs {

// Thread-safe.
class BackgroundWorker {
 public:
  // `step` runs on the worker's thread only; it returns true if it did
  // anything, so that it is called again at once.
  BackgroundWorker(std::function<bool()> step, absl::Duration idle_sleep);
  ~BackgroundWorker();

  // Once.
  void Start();

  // Ends the thread after the running step; Kick is still allowed, and does
  // nothing, after that.
  void Stop();

  // Wakes it up: work may have become possible.
  void Kick();

 private:
  void Run();

  const std::function<bool()> step_;
  const absl::Duration idle_sleep_;
  Wakeup wakeup_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_BACKGROUND_WORKER_H_
