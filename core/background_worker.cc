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
  stopping_ = true;
  wakeup_.Set();
  if (thread_.joinable()) thread_.join();
}

void BackgroundWorker::Kick() { wakeup_.Set(); }

void BackgroundWorker::Run() {
  while (true) {
    // In this order: the end of a Stop() that comes in between is not cleared.
    wakeup_.Clear();
    if (stopping_) return;
    if (!step_()) wakeup_.WaitFor(idle_sleep_);
  }
}

}  // namespace pcachefs
