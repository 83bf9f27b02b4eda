#include "fuse/read_buffer.h"

#include <glog/logging.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "meta/units.h"

namespace pcachefs {
namespace read_buffer_internal {

// More than so many idle buffers are given back to the system.
constexpr size_t kMaxIdle = 16;

// What is idle, and how many there are. Every buffer keeps it alive.
class Stock {
 public:
  explicit Stock(int limit) : limit_(limit) {}

  // nullptr: the caller may make one more. Waits while all are out.
  ReadBufferMemory* Pop() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &Stock::HasRoom));
    if (idle_.empty()) {
      ++made_;
      return nullptr;
    }
    ReadBufferMemory* memory = idle_.back();
    idle_.pop_back();
    return memory;
  }

  // False: the caller must delete it.
  bool Push(ReadBufferMemory* memory) {
    absl::MutexLock lock(&mutex_);
    if (!is_closed_ && idle_.size() < kMaxIdle) {
      idle_.push_back(memory);
      return true;
    }
    --made_;
    return false;
  }

  // Nothing is kept any more. What was idle is the caller's.
  std::vector<ReadBufferMemory*> Close() {
    absl::MutexLock lock(&mutex_);
    is_closed_ = true;
    return std::exchange(idle_, {});
  }

 private:
  bool HasRoom() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !idle_.empty() || made_ < limit_;
  }

  const int limit_;
  absl::Mutex mutex_;
  std::vector<ReadBufferMemory*> idle_ ABSL_GUARDED_BY(mutex_);
  int made_ ABSL_GUARDED_BY(mutex_) = 0;
  bool is_closed_ ABSL_GUARDED_BY(mutex_) = false;
};

// The buffer that stays with a thread.
struct ThreadSlot {
  ~ThreadSlot() { GiveUp(); }

  void GiveUp() {
    ReadBufferMemory* const given = std::exchange(memory, nullptr);
    if (given != nullptr && !given->stock_->Push(given)) delete given;
  }

  ReadBufferMemory* memory = nullptr;
};

namespace {
thread_local ThreadSlot thread_slot;

std::byte* Allocate(size_t capacity) {
  void* memory = std::aligned_alloc(kBlockSize, capacity);
  PCHECK(memory != nullptr) << "read buffer of " << capacity << " bytes";
  return static_cast<std::byte*>(memory);
}
}  // namespace

}  // namespace read_buffer_internal

using read_buffer_internal::Stock;
using read_buffer_internal::ThreadSlot;

ReadBufferMemory::ReadBufferMemory(std::shared_ptr<Stock> stock,
                                   size_t capacity)
    : stock_(std::move(stock)),
      capacity_(capacity),
      memory_(read_buffer_internal::Allocate(capacity)) {}

ReadBufferMemory::~ReadBufferMemory() { std::free(memory_); }

void ReadBufferReturner::operator()(ReadBufferMemory* memory) const {
  ThreadSlot& slot = read_buffer_internal::thread_slot;
  if (memory->capacity_ != ReadBufferPool::kBufferSize) {
    delete memory;
  } else if (memory->home_ == &slot && slot.memory == nullptr) {
    slot.memory = memory;
  } else if (!memory->stock_->Push(memory)) {
    delete memory;
  }
}

ReadBufferPool::ReadBufferPool(int limit)
    : stock_(std::make_shared<Stock>(limit)) {}

ReadBufferPool::~ReadBufferPool() {
  for (ReadBufferMemory* memory : stock_->Close()) delete memory;
}

ReadBuffer ReadBufferPool::Take(size_t length) {
  ThreadSlot& slot = read_buffer_internal::thread_slot;
  ReadBufferMemory* memory = nullptr;
  if (length > kBufferSize) {
    memory = new ReadBufferMemory(stock_, RoundUp(length, kBlockSize));
  } else if (slot.memory != nullptr && slot.memory->stock_ == stock_) {
    memory = std::exchange(slot.memory, nullptr);
  } else {
    slot.GiveUp();
    memory = TakeFromStock();
  }
  memory->length_ = length;
  memory->home_ = &slot;
  return ReadBuffer(memory);
}

ReadBufferMemory* ReadBufferPool::TakeFromStock() {
  ReadBufferMemory* const idle = stock_->Pop();
  return idle != nullptr ? idle : new ReadBufferMemory(stock_, kBufferSize);
}

}  // namespace pcachefs
