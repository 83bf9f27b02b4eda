// One processor's queue of FUSE over io_uring, served by a thread of its own,
// in memory that outlives it. libfuse's own rings cannot be handed over: their
// entries die with the process, and with them the requests in them.
//
// libfuse is handed each request as if it had been read from the descriptor,
// and FuseReply brings the answer here.

#ifndef PCACHEFS_FUSE_RING_QUEUE_H_
#define PCACHEFS_FUSE_RING_QUEUE_H_

#include <liburing.h>
#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "fuse/connection.h"
#include "fuse/libfuse.h"
#include "fuse/ring_memory.h"

namespace pcachefs {

class RingQueue;

// Of one request that is being handled.
struct RingEntry {
  RingQueue* queue = nullptr;
  int number = 0;
  fuse_req_t request = nullptr;
};

// Answer, Hold, Seal and the questions: any thread. The rest: one thread, in the
// order Open, Start.
class RingQueue {
 public:
  // All outlive it. `number` is the processor's.
  RingQueue(int number, RingMemory& memory, fuse_session* session, int fd,
            Connection& connection);
  // Ends the thread.
  ~RingQueue();
  RingQueue(const RingQueue&) = delete;
  RingQueue& operator=(const RingQueue&) = delete;

  // All that can fail, so that who cannot serve takes nothing over.
  absl::Status Open();
  // Entries that hold a request are taken as they are, the others registered.
  void Start();

  // From any thread. False: too late, the successor will do it again.
  bool Answer(int entry, int error, std::span<const iovec> parts);

  // What comes from now on stays in its entry.
  void Hold() { is_held_ = true; }
  // A request may be about to begin all the same.
  bool is_dispatching() const { return is_dispatching_; }
  // Every entry holds a request, so that the kernel has nothing to give out.
  bool IsFull() const;
  // No answer reaches the kernel any more.
  void Seal();

 private:
  void Run();
  void HandleCompletions();
  void TakeUp(int entry);
  void Dispatch(int entry);
  io_uring_sqe* Prepare(int entry, uint32_t command, uint64_t commit_id);
  void Register(int entry);
  void Commit(int entry);
  void CommitAnswered();
  void ListenForWake();

  const int number_;
  RingMemory& memory_;
  fuse_session* const session_;
  const int fd_;
  Connection& connection_;

  io_uring ring_ = {};
  bool has_ring_ = false;
  const int wake_fd_;
  uint64_t wake_count_ = 0;
  std::vector<iovec> places_;  // two for each entry
  std::vector<uint64_t> commit_ids_;
  std::vector<RingEntry> entries_;

  std::atomic<bool> is_held_ = false;
  std::atomic<bool> is_dispatching_ = false;
  std::atomic<bool> is_sealed_ = false;
  std::atomic<bool> must_end_ = false;
  std::atomic<int> answering_ = 0;
  absl::Mutex mutex_;
  std::vector<int> answered_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_RING_QUEUE_H_
