// Proves how a ring starts, holds back and ends operations. Reads of pipes
// stand for requests to a slow device: they end when the test says so.

#include "iobackend/ring.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/iobackend/test_files.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

// What the operations of a test have in common.
struct Counts {
  std::atomic<int> started = 0;
  std::atomic<int> finished = 0;
  std::atomic<int> in_flight = 0;
  std::atomic<int> most_in_flight = 0;
};

// Reads `calls` bytes, one at a time.
class ByteRead final : public RingOperation {
 public:
  ByteRead(
      int fd, Counts& counts, int calls = 1,
      absl::AnyInvocable<void()> on_finish = [] {})
      : fd_(fd),
        counts_(counts),
        calls_left_(calls),
        on_finish_(std::move(on_finish)) {}

  bool needs_io() const override { return calls_left_ > 0; }

  void Prepare(io_uring_sqe* sqe) override {
    if (!is_started_) {
      is_started_ = true;
      ++counts_.started;
      const int now = ++counts_.in_flight;
      int most = counts_.most_in_flight;
      while (most < now &&
             !counts_.most_in_flight.compare_exchange_weak(most, now)) {
      }
    }
    io_uring_prep_read(sqe, fd_, &byte_, 1, -1);
  }

  bool Advance(int result) override {
    if (result == 1) --calls_left_;
    if (calls_left_ == 0) --counts_.in_flight;
    return calls_left_ == 0;
  }

  void Finish() override {
    on_finish_();
    ++counts_.finished;
  }

 private:
  const int fd_;
  Counts& counts_;
  int calls_left_;
  bool is_started_ = false;
  char byte_ = 0;
  absl::AnyInvocable<void()> on_finish_;
};

class RingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    read_end_ = FileDescriptor(ends[0]);
    write_end_ = FileDescriptor(ends[1]);
  }

  void Open(int depth) {
    auto ring = Ring::Create(depth);
    ASSERT_THAT(ring, IsOk());
    ring_ = *std::move(ring);
  }

  Ring::Operations Reads(int count, int calls = 1) {
    Ring::Operations operations;
    for (int i = 0; i < count; ++i) {
      operations.push_back(
          std::make_unique<ByteRead>(read_end_.get(), counts_, calls));
    }
    return operations;
  }

  Ring::Operations OneRead(absl::AnyInvocable<void()> on_finish) {
    Ring::Operations operations;
    operations.push_back(std::make_unique<ByteRead>(
        read_end_.get(), counts_, /*calls=*/1, std::move(on_finish)));
    return operations;
  }

  // Lets `count` reads end.
  void Release(int count) {
    const std::vector<char> bytes(count);
    ASSERT_EQ(write(write_end_.get(), bytes.data(), count), count);
  }

  FileDescriptor read_end_, write_end_;
  Counts counts_;
  std::unique_ptr<Ring> ring_;  // ends before what its operations use
};

TEST_F(RingTest, DirectOperationsStartInTheCallersContext) {
  Open(4);

  ring_->Submit(Reads(3), RingStart::kWaitForRoom);

  EXPECT_EQ(counts_.started, 3);
  Release(3);
  ring_.reset();
  EXPECT_EQ(counts_.finished, 3);
}

TEST_F(RingTest, QueuedOperationsNeverBlockTheCaller) {
  Open(2);

  ring_->Submit(Reads(100), RingStart::kQueued);
  ring_->Submit(Reads(100), RingStart::kIfRoom);

  EXPECT_EQ(counts_.finished, 0);
  Release(200);
  ring_.reset();
  EXPECT_EQ(counts_.finished, 200);
  EXPECT_EQ(counts_.most_in_flight, 2);
}

TEST_F(RingTest, DirectSubmitterWaitsForRoom) {
  Open(2);
  std::atomic<int> ended_when_submitted = -1;
  std::thread submitter([&] {
    ring_->Submit(Reads(100), RingStart::kWaitForRoom);
    ended_when_submitted = 100 - counts_.in_flight;
  });

  Release(100);
  submitter.join();
  ring_.reset();

  // All were started when it returned, so all but two had ended.
  EXPECT_GE(ended_when_submitted, 98);
  EXPECT_EQ(counts_.most_in_flight, 2);
  EXPECT_EQ(counts_.finished, 100);
}

TEST_F(RingTest, OperationOfManyCallsKeepsItsPlace) {
  Open(2);

  ring_->Submit(Reads(5, /*calls=*/20), RingStart::kQueued);
  Release(100);
  ring_.reset();

  EXPECT_EQ(counts_.finished, 5);
  EXPECT_EQ(counts_.most_in_flight, 2);
}

TEST_F(RingTest, OperationWithoutCallsFinishesOnTheReaper) {
  Open(1);
  std::thread::id thread = std::this_thread::get_id();
  absl::Notification done;
  Ring::Operations operations;
  operations.push_back(
      std::make_unique<ByteRead>(read_end_.get(), counts_, /*calls=*/0, [&] {
        thread = std::this_thread::get_id();
        done.Notify();
      }));

  ring_->Submit(Reads(1), RingStart::kWaitForRoom);  // fills the ring
  ring_->Submit(std::move(operations), RingStart::kQueued);
  done.WaitForNotification();

  EXPECT_NE(thread, std::this_thread::get_id());
  Release(1);
}

TEST_F(RingTest, CompletionsMaySubmitInAnyWay) {
  Open(1);
  for (const RingStart start :
       {RingStart::kWaitForRoom, RingStart::kIfRoom, RingStart::kQueued}) {
    absl::Notification done;
    ring_->Submit(OneRead([&, start] {
                    ring_->Submit(OneRead([&, start] {
                                    ring_->Submit(
                                        OneRead([&] { done.Notify(); }), start);
                                  }),
                                  start);
                  }),
                  start);
    Release(3);
    done.WaitForNotification();
  }
}

TEST_F(RingTest, CompletionsOfOneRingMaySubmitToAnother) {
  Open(1);
  auto other = Ring::Create(1);
  ASSERT_THAT(other, IsOk());
  absl::Notification done;

  ring_->Submit(OneRead([&] {
                  (*other)->Submit(OneRead([&] { done.Notify(); }),
                                   RingStart::kWaitForRoom);
                }),
                RingStart::kQueued);
  Release(2);

  done.WaitForNotification();
}

TEST_F(RingTest, CompletionsHoldNoLock) {
  Open(2);
  absl::Mutex mutex;
  {
    // Submitting under a lock which a completion takes is no deadlock.
    absl::MutexLock lock(&mutex);
    for (int i = 0; i < 2; ++i) {
      ring_->Submit(OneRead([&] { absl::MutexLock inner(&mutex); }),
                    RingStart::kQueued);
    }
    Release(2);
  }
  ring_.reset();
  EXPECT_EQ(counts_.finished, 2);
}

TEST_F(RingTest, OperationsOutliveTheThreadThatSubmittedThem) {
  Open(64);
  for (int i = 0; i < 50; ++i) {
    std::thread([&] {
      ring_->Submit(Reads(1), RingStart::kWaitForRoom);
    }).join();
  }
  Release(50);
  ring_.reset();
  EXPECT_EQ(counts_.finished, 50);
}

TEST_F(RingTest, ManySubmittersShareARing) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 200;
  Open(3);
  std::vector<std::thread> threads;
  std::thread releaser([&] {
    for (int i = 0; i < kThreads * kRounds; ++i) Release(2);
  });
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < kRounds; ++round) {
        ring_->Submit(Reads(2), i % 2 == 0 ? RingStart::kWaitForRoom
                                           : RingStart::kQueued);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  releaser.join();
  ring_.reset();

  EXPECT_EQ(counts_.finished, 2 * kThreads * kRounds);
  EXPECT_LE(counts_.most_in_flight, 3);
}

TEST(Ring, ImpossibleDepthIsRefused) {
  EXPECT_THAT(Ring::Create(1 << 20),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace pcachefs
