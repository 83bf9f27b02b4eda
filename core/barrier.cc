#include "core/barrier.h"

#include <utility>

#include "core/mutation.h"

namespace pcachefs {

absl::Status Barrier::Persist() {
  absl::MutexLock lock(&mutex_);
  // A persist that is already running may have begun before our writes.
  const uint64_t wanted = started_ + 1;
  while (status_.ok() && completed_ < wanted) {
    if (running_) {
      mutex_.Await(absl::Condition(
          +[](Barrier* barrier) ABSL_EXCLUSIVE_LOCKS_REQUIRED(
               barrier->mutex_) { return !barrier->running_; },
          this));
      continue;
    }
    running_ = true;
    ++started_;
    mutex_.Unlock();
    absl::Status persisted = device_.Persist();
    mutex_.Lock();
    running_ = false;
    if (persisted.ok() || Planted(Mutation::kPersistErrorForgotten)) {
      completed_ = started_;
    } else {
      FailLocked(std::move(persisted));
    }
  }
  return status_;
}

void Barrier::PersistAsync(Done done) {
  if (!device_.persist_is_cheap()) {
    absl::MutexLock lock(&mutex_);
    // After that nobody may run Step() any more.
    if (!stopped_) {
      waiters_.push_back({started_ + 1, std::move(done)});
      return;
    }
  }
  done(Persist());
}

uint64_t Barrier::WriteTicket() {
  absl::MutexLock lock(&mutex_);
  return started_;
}

bool Barrier::Covered(uint64_t ticket) {
  absl::MutexLock lock(&mutex_);
  return completed_ > ticket;
}

bool Barrier::Step() {
  std::vector<Waiter> waiters;
  {
    absl::MutexLock lock(&mutex_);
    waiters.swap(waiters_);
  }
  if (waiters.empty()) return false;
  const absl::Status status = Persist();
  for (Waiter& waiter : waiters) waiter.done(status);
  return true;
}

bool Barrier::WaitForWork() {
  absl::MutexLock lock(&mutex_, absl::Condition(this, &Barrier::HasWork));
  return !waiters_.empty();
}

void Barrier::Stop() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
}

absl::Status Barrier::status() {
  absl::MutexLock lock(&mutex_);
  return status_;
}

void Barrier::Poison(absl::Status status) {
  absl::MutexLock lock(&mutex_);
  FailLocked(std::move(status));
}

void Barrier::FailLocked(absl::Status status) {
  if (!status_.ok()) return;
  status_ = std::move(status);
  failed_.store(true, std::memory_order_release);
}

uint64_t Barrier::persist_count() {
  absl::MutexLock lock(&mutex_);
  return completed_;
}

}  // namespace pcachefs
