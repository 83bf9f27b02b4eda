#include "iobackend/worker_thread.h"

#include <utility>

namespace pcachefs {

WorkerThread::WorkerThread() : thread_(&WorkerThread::Loop, this) {}

WorkerThread::~WorkerThread() {
  {
    absl::MutexLock lock(&mutex_);
    is_closing_ = true;
  }
  thread_.join();
}

void WorkerThread::Run(Function function) {
  absl::MutexLock lock(&mutex_);
  functions_.push_back(std::move(function));
}

void WorkerThread::Loop() {
  while (true) {
    Function function;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &WorkerThread::HasWorkLocked));
      if (functions_.empty()) return;
      function = std::move(functions_.front());
      functions_.pop_front();
    }
    function();
  }
}

}  // namespace pcachefs
