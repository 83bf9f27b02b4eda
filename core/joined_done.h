// Answers one request when all of its parts are done.

#ifndef PCACHEFS_CORE_JOINED_DONE_H_
#define PCACHEFS_CORE_JOINED_DONE_H_

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace pcachefs {

// Thread-safe. Shared by the parts; calls `done` with the first error when the
// last of them lets go.
class JoinedDone {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  explicit JoinedDone(Done done) : done_(std::move(done)) {}
  ~JoinedDone() { done_(std::move(status_)); }

  void Note(absl::Status status) {
    if (status.ok()) return;
    absl::MutexLock lock(&mutex_);
    if (status_.ok()) status_ = std::move(status);
  }

  // A callback for one part; it keeps `join` alive.
  static Done Part(std::shared_ptr<JoinedDone> join) {
    return [join = std::move(join)](absl::Status status) mutable {
      join->Note(std::move(status));
      join.reset();
    };
  }

 private:
  absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  Done done_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_JOINED_DONE_H_
