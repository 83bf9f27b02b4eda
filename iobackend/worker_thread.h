// A thread that runs functions one after another, for systems without
// io_uring.

#ifndef PCACHEFS_IOBACKEND_WORKER_THREAD_H_
#define PCACHEFS_IOBACKEND_WORKER_THREAD_H_

#include <deque>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace pcachefs {

// Thread-safe. The destructor runs what is left, then ends the thread; it must
// not be called by one of the functions.
class WorkerThread {
 public:
  using Function = absl::AnyInvocable<void()>;

  WorkerThread();
  ~WorkerThread();

  // Never blocks.
  void Run(Function function);

 private:
  void Loop();
  bool HasWorkLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return is_closing_ || !functions_.empty();
  }

  absl::Mutex mutex_;
  std::deque<Function> functions_ ABSL_GUARDED_BY(mutex_);
  bool is_closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_WORKER_THREAD_H_
