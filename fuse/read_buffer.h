// Memory for answers to reads on the classic channel: page-aligned buffers of
// 1 MiB, one of which stays with each thread, so that a hit takes no lock.
//
//   ReadBuffer buffer = pool.Take(length);
//   image->Read(range, buffer->bytes(), [buffer = std::move(buffer)] ...);
//
// A miss takes its buffer along; the next read of the thread gets another one.

#ifndef PCACHEFS_FUSE_READ_BUFFER_H_
#define PCACHEFS_FUSE_READ_BUFFER_H_

#include <cstddef>
#include <memory>
#include <span>

#include "meta/units.h"

namespace pcachefs {

namespace read_buffer_internal {
class Stock;
struct ThreadSlot;
}  // namespace read_buffer_internal

class ReadBufferMemory {
 public:
  ReadBufferMemory(std::shared_ptr<read_buffer_internal::Stock> stock,
                   size_t capacity);
  ~ReadBufferMemory();
  ReadBufferMemory(const ReadBufferMemory&) = delete;
  ReadBufferMemory& operator=(const ReadBufferMemory&) = delete;

  // The length asked for.
  std::span<std::byte> bytes() const { return {memory_, length_}; }

 private:
  friend class ReadBufferPool;
  friend struct ReadBufferReturner;
  friend struct read_buffer_internal::ThreadSlot;

  const std::shared_ptr<read_buffer_internal::Stock> stock_;
  const size_t capacity_;
  std::byte* const memory_;
  size_t length_ = 0;
  const void* home_ = nullptr;  // the thread that took it
};

struct ReadBufferReturner {
  void operator()(ReadBufferMemory* memory) const;
};

// As large as a pointer.
using ReadBuffer = std::unique_ptr<ReadBufferMemory, ReadBufferReturner>;

// Thread-safe. Buffers may outlive it.
class ReadBufferPool {
 public:
  static constexpr size_t kBufferSize = kMiB;

  // At most `limit` buffers are out at once; further takers wait.
  explicit ReadBufferPool(int limit);
  ~ReadBufferPool();
  ReadBufferPool(const ReadBufferPool&) = delete;
  ReadBufferPool& operator=(const ReadBufferPool&) = delete;

  // A length beyond kBufferSize gets memory of its own.
  ReadBuffer Take(size_t length);

 private:
  ReadBufferMemory* TakeFromStock();

  const std::shared_ptr<read_buffer_internal::Stock> stock_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_READ_BUFFER_H_
