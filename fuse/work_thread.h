// One thread that runs what is posted to it, in order: for what may block (the
// control tree, looking for holes), so that the threads that serve requests
// never do.
//
// Thread-safe. The destructor runs what is still queued, then joins.

#ifndef PCACHEFS_FUSE_WORK_THREAD_H_
#define PCACHEFS_FUSE_WORK_THREAD_H_

#include <deque>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace pcachefs {

class WorkThread {
 public:
  using Work = absl::AnyInvocable<void()>;

  WorkThread();
  ~WorkThread();
  WorkThread(const WorkThread&) = delete;
  WorkThread& operator=(const WorkThread&) = delete;

  void Post(Work work);

 private:
  void Run();
  bool HasNews() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !queue_.empty();
  }

  absl::Mutex mutex_;
  std::deque<Work> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: runs over all of the above
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_WORK_THREAD_H_
