// One io_uring with the thread that reaps it: what runs asynchronous storage
// requests.
//
// Any thread may submit. Operations start in the submitter's context where it
// may block, and are handed to the reaper where it must not; in both cases in
// the order of arrival. Completions run on the reaper with no lock held.

#ifndef PCACHEFS_IOBACKEND_RING_H_
#define PCACHEFS_IOBACKEND_RING_H_

#include <liburing.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "iobackend/file_io.h"

namespace pcachefs {

// A sequence of system calls, one at a time. Advance() and Finish() are called
// on the reaper; Prepare() on the submitter or the reaper.
class RingOperation {
 public:
  virtual ~RingOperation() = default;

  // False if there is nothing to ask the kernel: only Finish() is called.
  virtual bool needs_io() const { return true; }
  // Describes the next call. No side effects outside of `sqe`.
  virtual void Prepare(io_uring_sqe* sqe) = 0;
  // Takes the result of the call, or -errno. False: another call must follow.
  virtual bool Advance(int result) = 0;
  // Tells whoever waits; the last call. May submit to any ring.
  virtual void Finish() = 0;
};

enum class RingStart {
  kWaitForRoom,  // in the caller's context; waits while the ring is full
  kIfRoom,       // in the caller's context if that needs no waiting
  kQueued,       // by the reaper: the caller may hold locks
};

// Thread-safe. Not destroyed by an operation of its own.
class Ring {
 public:
  using Operations = std::vector<std::unique_ptr<RingOperation>>;

  // At most `depth` operations are in flight. `owner` is what
  // OfThisThread() is asked for. Unavailable if the kernel refuses a ring.
  static absl::StatusOr<std::unique_ptr<Ring>> Create(
      int depth, const void* owner = nullptr);

  // The ring of `owner` whose reaper the calling thread is, or nullptr. An
  // operation may submit to its own ring even while that is being destroyed.
  static Ring* OfThisThread(const void* owner);

  // Waits for all operations. An operation may be what tells its owner to call
  // this, even before the call that submitted it has returned.
  ~Ring();

  // Starts all operations with one system call, or as few as the depth allows.
  // On a reaper's thread kWaitForRoom means kQueued: waiting there could be
  // waiting for oneself.
  void Submit(Operations operations, RingStart start);

 private:
  Ring(int depth, const void* owner) : depth_(depth), owner_(owner) {}

  absl::Status Open();
  uint64_t Enqueue(Operations operations) ABSL_LOCKS_EXCLUDED(queue_mutex_);
  void WakeReaper();
  void WaitUntilDequeued(uint64_t last) ABSL_LOCKS_EXCLUDED(queue_mutex_);
  size_t StartDirectly(Operations& operations)
      ABSL_LOCKS_EXCLUDED(submit_mutex_, queue_mutex_);
  void PrepareLocked(RingOperation* operation)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(submit_mutex_);
  void PrepareWakeUpLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(submit_mutex_);
  void EnterLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(submit_mutex_);

  // The reaper's.
  struct Batch {
    std::vector<RingOperation*> again;  // hold their places in flight
    Operations finished;
    size_t left_flight = 0;
    bool woken = false;
  };
  void Reap();
  void WaitForCompletions(Batch* batch);
  void TakeCompletion(const io_uring_cqe& completion, Batch* batch);
  void StartMore(Batch* batch);
  void TakeQueuedLocked(Batch* batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(submit_mutex_, queue_mutex_);
  void FinishAll(Operations operations) ABSL_LOCKS_EXCLUDED(queue_mutex_);
  bool IsClosing() ABSL_LOCKS_EXCLUDED(queue_mutex_);

  const size_t depth_;
  const void* const owner_;
  // Completion side: the reaper's alone. Submission side: submit_mutex_.
  io_uring ring_ = {};
  bool is_ring_open_ = false;
  FileDescriptor wake_event_;
  uint64_t wake_value_ = 0;  // written by the kernel

  // Held while entering the kernel. Lock order: before queue_mutex_.
  absl::Mutex submit_mutex_;
  size_t in_flight_ ABSL_GUARDED_BY(submit_mutex_) = 0;

  // Held for a few instructions only.
  absl::Mutex queue_mutex_ ABSL_ACQUIRED_AFTER(submit_mutex_);
  std::deque<std::unique_ptr<RingOperation>> queue_
      ABSL_GUARDED_BY(queue_mutex_);
  // Counts of operations that ever entered and left queue_.
  uint64_t enqueued_ ABSL_GUARDED_BY(queue_mutex_) = 0;
  uint64_t dequeued_ ABSL_GUARDED_BY(queue_mutex_) = 0;
  // Submitted and Finish() not yet returned; calls that still need the ring.
  uint64_t outstanding_ ABSL_GUARDED_BY(queue_mutex_) = 0;
  bool is_closing_ ABSL_GUARDED_BY(queue_mutex_) = false;

  std::thread reaper_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_RING_H_
