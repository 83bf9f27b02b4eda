#include "iobackend/ring.h"

#include <glog/logging.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "meta/status_macros.h"

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define PCACHEFS_THREAD_SANITIZER 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define PCACHEFS_THREAD_SANITIZER 1
#endif

#ifdef PCACHEFS_THREAD_SANITIZER
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace pcachefs {
namespace {

// The ring whose reaper this thread is.
thread_local Ring* reaped_ring = nullptr;

// ThreadSanitizer does not see that what happens before a submission happens
// before the completion.
void ReleaseToKernel([[maybe_unused]] void* object) {
#ifdef PCACHEFS_THREAD_SANITIZER
  __tsan_release(object);
#endif
}
void AcquireFromKernel([[maybe_unused]] void* object) {
#ifdef PCACHEFS_THREAD_SANITIZER
  __tsan_acquire(object);
#endif
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ring>> Ring::Create(int depth,
                                                   const void* owner) {
  auto ring = absl::WrapUnique(new Ring(std::max(depth, 1), owner));
  RETURN_IF_ERROR(ring->Open());
  return ring;
}

Ring* Ring::OfThisThread(const void* owner) {
  return reaped_ring != nullptr && reaped_ring->owner_ == owner ? reaped_ring
                                                                : nullptr;
}

absl::Status Ring::Open() {
  // No COOP_TASKRUN or DEFER_TASKRUN: they leave completions to the thread that
  // submitted, which is not the one that waits for them here.
  io_uring_params parameters = {};
  parameters.flags = IORING_SETUP_CLAMP;
  // One more for the wake-up.
  const int result =
      io_uring_queue_init_params(depth_ + 1, &ring_, &parameters);
  if (result < 0) {
    return absl::UnavailableError(
        absl::ErrnoToStatus(-result, "io_uring is not available").message());
  }
  is_ring_open_ = true;
  if (parameters.sq_entries < depth_ + 1) {
    return absl::InvalidArgumentError(
        "queue depth: got more than the kernel allows a ring");
  }
  wake_event_ = FileDescriptor(eventfd(0, EFD_CLOEXEC));
  if (!wake_event_.is_open()) return absl::ErrnoToStatus(errno, "eventfd");
  reaper_ = std::thread(&Ring::Reap, this);
  return absl::OkStatus();
}

Ring::~Ring() {
  if (reaper_.joinable()) {
    CHECK(reaper_.get_id() != std::this_thread::get_id())
        << "a ring is destroyed by its own operation";
    {
      absl::MutexLock lock(&queue_mutex_);
      queue_mutex_.Await(absl::Condition(
          +[](uint64_t* outstanding) { return *outstanding == 0; },
          &outstanding_));
      is_closing_ = true;
    }
    WakeReaper();
    reaper_.join();
  }
  if (is_ring_open_) io_uring_queue_exit(&ring_);
}

void Ring::Submit(Operations operations, RingStart start) {
  if (operations.empty()) return;
  {
    absl::MutexLock lock(&queue_mutex_);
    outstanding_ += operations.size();
  }
  const bool may_start = start != RingStart::kQueued && reaped_ring == nullptr;
  const size_t started = may_start ? StartDirectly(operations) : 0;
  // From here on the ring may be gone if none is left.
  if (started == operations.size()) return;

  operations.erase(operations.begin(), operations.begin() + started);
  const uint64_t last = Enqueue(std::move(operations));
  if (may_start && start == RingStart::kWaitForRoom) WaitUntilDequeued(last);
  absl::MutexLock lock(&queue_mutex_);
  --outstanding_;
}

// Returns the number of the last of them among all that were ever queued.
// Counts the call itself as outstanding, since the operations may end, and with
// them the ring, while it is still needed here.
uint64_t Ring::Enqueue(Operations operations) {
  bool was_empty;
  uint64_t last;
  {
    absl::MutexLock lock(&queue_mutex_);
    ++outstanding_;
    was_empty = queue_.empty();
    last = enqueued_ += operations.size();
    for (auto& operation : operations) queue_.push_back(std::move(operation));
  }
  // Whoever found the queue empty wakes the reaper, once for all that follow.
  // It looks at the queue by itself after its own callbacks, and whenever an
  // operation leaves a full ring.
  if (was_empty && reaped_ring != this) WakeReaper();
  return last;
}

void Ring::WakeReaper() {
  const uint64_t one = 1;
  while (write(wake_event_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

// This is the back-pressure.
void Ring::WaitUntilDequeued(uint64_t last) {
  struct Turn {
    const uint64_t* dequeued;
    uint64_t last;
  };
  absl::MutexLock lock(&queue_mutex_);
  Turn turn = {&dequeued_, last};
  queue_mutex_.Await(absl::Condition(
      +[](Turn* turn) { return *turn->dequeued >= turn->last; }, &turn));
}

// Returns how many were started, from the first on.
size_t Ring::StartDirectly(Operations& operations) {
  absl::MutexLock lock(&submit_mutex_);
  {
    absl::MutexLock queue_lock(&queue_mutex_);
    if (!queue_.empty()) return 0;
  }
  size_t started = 0;
  for (auto& operation : operations) {
    if (in_flight_ >= depth_ || !operation->needs_io()) break;
    ++in_flight_;
    PrepareLocked(operation.release());
    ++started;
  }
  EnterLocked();
  return started;
}

void Ring::PrepareLocked(RingOperation* operation) {
  io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
  // There is a place for every operation in flight, and EnterLocked() leaves
  // none behind.
  CHECK(sqe != nullptr);
  operation->Prepare(sqe);
  io_uring_sqe_set_data(sqe, operation);
  ReleaseToKernel(operation);
}

void Ring::PrepareWakeUpLocked() {
  io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
  CHECK(sqe != nullptr);
  io_uring_prep_read(sqe, wake_event_.get(), &wake_value_, sizeof(wake_value_),
                     0);
  io_uring_sqe_set_data(sqe, nullptr);
}

void Ring::EnterLocked() {
  while (io_uring_sq_ready(&ring_) > 0) {
    const int result = io_uring_submit(&ring_);
    if (result > 0 || result == -EINTR) continue;
    // The kernel is short of memory for a moment; what is in flight frees some
    // without our help.
    LOG_EVERY_N(WARNING, 1000)
        << "io_uring: cannot submit: " << std::strerror(-result);
    absl::SleepFor(absl::Milliseconds(1));
  }
}

void Ring::Reap() {
  reaped_ring = this;
  Batch batch;
  // Armed here, because the kernel cancels what a thread asked for when it
  // ends; operations that this happens to are repeated by their Advance().
  batch.woken = true;
  StartMore(&batch);
  while (!IsClosing()) {
    WaitForCompletions(&batch);
    StartMore(&batch);
    while (!batch.finished.empty()) {
      FinishAll(std::exchange(batch.finished, {}));
      // The callbacks may have queued more, of which nobody tells us.
      StartMore(&batch);
    }
  }
}

void Ring::WaitForCompletions(Batch* batch) {
  io_uring_cqe* completion;
  int result;
  do {
    result = io_uring_wait_cqe(&ring_, &completion);
  } while (result == -EINTR || result == -EAGAIN);
  CHECK_EQ(result, 0) << "io_uring_wait_cqe: " << std::strerror(-result);

  unsigned head;
  unsigned count = 0;
  io_uring_for_each_cqe(&ring_, head, completion) {
    TakeCompletion(*completion, batch);
    ++count;
  }
  io_uring_cq_advance(&ring_, count);
}

void Ring::TakeCompletion(const io_uring_cqe& completion, Batch* batch) {
  auto* const operation =
      static_cast<RingOperation*>(io_uring_cqe_get_data(&completion));
  if (operation == nullptr) {
    batch->woken = true;
    return;
  }
  AcquireFromKernel(operation);
  if (operation->Advance(completion.res)) {
    batch->finished.emplace_back(operation);
    ++batch->left_flight;
  } else {
    batch->again.push_back(operation);
  }
}

// Before the callbacks, so that the device is busy while they run.
void Ring::StartMore(Batch* batch) {
  absl::MutexLock lock(&submit_mutex_);
  in_flight_ -= std::exchange(batch->left_flight, 0);
  if (std::exchange(batch->woken, false)) PrepareWakeUpLocked();
  for (RingOperation* operation : batch->again) PrepareLocked(operation);
  batch->again.clear();
  {
    absl::MutexLock queue_lock(&queue_mutex_);
    TakeQueuedLocked(batch);
  }
  EnterLocked();
}

void Ring::TakeQueuedLocked(Batch* batch) {
  while (!queue_.empty()) {
    const bool needs_io = queue_.front()->needs_io();
    if (needs_io && in_flight_ >= depth_) break;
    std::unique_ptr<RingOperation> operation = std::move(queue_.front());
    queue_.pop_front();
    ++dequeued_;
    if (needs_io) {
      ++in_flight_;
      PrepareLocked(operation.release());
    } else {
      batch->finished.push_back(std::move(operation));
    }
  }
}

void Ring::FinishAll(Operations operations) {
  for (auto& operation : operations) {
    operation->Finish();
    operation.reset();
  }
  absl::MutexLock lock(&queue_mutex_);
  outstanding_ -= operations.size();
}

bool Ring::IsClosing() {
  absl::MutexLock lock(&queue_mutex_);
  return is_closing_;
}

}  // namespace pcachefs
