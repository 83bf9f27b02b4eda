#include "core/background_worker.h"

#include <utility>

namespace pcachefs {

BackgroundWorker::BackgroundWorker(std::function<bool()> step,
                                   absl::Duration idle_sleep)
    : step_(std::move(step)), idle_sleep_(idle_sleep) {}

void BackgroundWorker::Start() {
  thread_ = std::thread([this] { Run(); });
}

BackgroundWorker::~BackgroundWorker() { Stop(); }

void BackgroundWorker::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void BackgroundWorker::Kick() {
  absl::MutexLock lock(&mutex_);
  kicked_ = true;
}

void BackgroundWorker::Run() {
  const auto woken = +[](BackgroundWorker* worker)
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(worker->mutex_) {
                            return worker->kicked_ || worker->stopping_;
                          };
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (stopping_) return;
      kicked_ = false;
    }
    if (step_()) continue;
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(woken, this), idle_sleep_);
  }
}

}  // namespace pcachefs
