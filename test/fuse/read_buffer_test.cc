// A thread that reads again and again gets the same memory; buffers that
// travel to other threads come back through the pool.

#include "fuse/read_buffer.h"

#include <cstdint>
#include <thread>
#include <utility>

#include "gtest/gtest.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

TEST(ReadBufferPool, ABufferIsAlignedAndAsLongAsAskedFor) {
  ReadBufferPool pool(2);
  const ReadBuffer buffer = pool.Take(1000);

  EXPECT_EQ(buffer->bytes().size(), 1000u);
  EXPECT_TRUE(IsAligned(reinterpret_cast<uintptr_t>(buffer->bytes().data()),
                        kBlockSize));
}

TEST(ReadBufferPool, AThreadGetsItsBufferAgain) {
  std::byte* first = nullptr;
  std::byte* second = nullptr;
  ReadBufferPool pool(1);
  std::thread([&] {
    first = pool.Take(4096)->bytes().data();
    second = pool.Take(8192)->bytes().data();
  }).join();

  EXPECT_EQ(first, second);
  // The thread has ended and given it back.
  EXPECT_EQ(pool.Take(1)->bytes().data(), first);
}

TEST(ReadBufferPool, ABufferMayEndOnAnotherThread) {
  ReadBufferPool pool(2);
  ReadBuffer taken = pool.Take(4096);
  std::byte* memory = taken->bytes().data();
  const ReadBuffer other = pool.Take(4096);
  EXPECT_NE(other->bytes().data(), memory);

  std::thread([buffer = std::move(taken)]() mutable { buffer.reset(); }).join();

  const ReadBuffer again = pool.Take(4096);
  EXPECT_EQ(again->bytes().data(), memory);
}

TEST(ReadBufferPool, WaitsForAReturnWhenAllAreOut) {
  ReadBufferPool pool(1);
  ReadBuffer taken = pool.Take(4096);
  std::thread waiter([&] { pool.Take(4096); });
  std::thread([buffer = std::move(taken)]() mutable { buffer.reset(); }).join();
  waiter.join();
}

TEST(ReadBufferPool, VeryLongReadsGetMemoryOfTheirOwn) {
  ReadBufferPool pool(1);
  const ReadBuffer small = pool.Take(4096);
  const ReadBuffer large = pool.Take(ReadBufferPool::kBufferSize + 1);

  EXPECT_EQ(large->bytes().size(), ReadBufferPool::kBufferSize + 1);
}

}  // namespace
}  // namespace pcachefs
