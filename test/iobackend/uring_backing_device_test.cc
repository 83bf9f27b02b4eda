// Proves what is the io_uring executor's own: many threads, requests from
// completions, back-pressure that ends, flushes that share.

#include "iobackend/uring_backing_device.h"

#include <atomic>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "iobackend/backing_device.h"
#include "iobackend/backing_file.h"
#include "meta/units.h"
#include "test/iobackend/test_files.h"
#include "test/testing/random_seed.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using Operation = BackingRequest::Operation;

constexpr uint64_t kSize = 8 * kMiB;

class UringBackingDeviceTest : public ::testing::Test {
 protected:
  void SetUp() override { MakeSparseFile(path_, kSize); }

  void Open(int rings, int queue_depth) {
    auto file = BackingFile::Open(path_, {});
    ASSERT_THAT(file, IsOk());
    auto device = UringBackingDevice::Create(
        *std::move(file), {.rings = rings, .queue_depth = queue_depth});
    ASSERT_THAT(device, IsOk());
    device_ = *std::move(device);
  }

  BackingRequest Request(Operation operation, uint64_t offset,
                         std::span<std::byte> bytes,
                         BackingRequest::Done done) {
    BackingRequest request;
    request.operation = operation;
    request.offset = offset;
    request.length = bytes.size();
    request.buffers = {bytes};
    request.done = std::move(done);
    return request;
  }

  void SubmitOne(BackingRequest request, Submission submission) {
    std::vector<BackingRequest> requests;
    requests.push_back(std::move(request));
    device_->Submit(std::move(requests), submission);
  }

  TestDirectory directory_;
  const std::string path_ = directory_.File("backing");
  std::unique_ptr<UringBackingDevice> device_;
};

TEST_F(UringBackingDeviceTest, MoreRequestsThanTheQueueHoldsAllComplete) {
  for (const Submission submission :
       {Submission::kDirect, Submission::kQueued}) {
    Open(/*rings=*/1, /*queue_depth=*/2);
    constexpr int kRequests = 100;
    TestBuffer buffer(kRequests * 4096);
    std::atomic<int> done = 0;
    std::vector<BackingRequest> requests;
    for (int i = 0; i < kRequests; ++i) {
      requests.push_back(Request(
          Operation::kWrite, i * 4096, buffer.bytes().subspan(i * 4096, 4096),
          [&](absl::Status status) { done += status.ok(); }));
    }

    device_->Submit(std::move(requests), submission);
    device_.reset();

    EXPECT_EQ(done, kRequests);
  }
}

TEST_F(UringBackingDeviceTest, CompletionsChainRequests) {
  Open(/*rings=*/2, /*queue_depth=*/1);
  constexpr int kChain = 200;
  TestBuffer buffer(4096);
  absl::Notification done;
  std::atomic<int> count = 0;
  std::function<void(absl::Status)> next = [&](absl::Status status) {
    ASSERT_THAT(status, IsOk());
    if (++count == kChain) {
      done.Notify();
      return;
    }
    // Direct is not refused here, and does not wait for its own completion.
    SubmitOne(Request(Operation::kRead, 0, buffer.bytes(), next),
              count % 2 == 0 ? Submission::kDirect : Submission::kQueued);
  };

  SubmitOne(Request(Operation::kRead, 0, buffer.bytes(), next),
            Submission::kDirect);

  done.WaitForNotification();
  device_.reset();
}

TEST_F(UringBackingDeviceTest, RefusedRequestIsDoneOnAThreadOfTheDevice) {
  Open(/*rings=*/1, /*queue_depth=*/4);
  absl::Mutex mutex;
  absl::Notification done;
  std::vector<std::byte> bytes(512);
  absl::MutexLock lock(&mutex);

  // Within Submit() it would wait for the caller's own lock.
  SubmitOne(Request(Operation::kRead, kSize, bytes,
                    [&](absl::Status status) {
                      absl::MutexLock inner(&mutex);
                      EXPECT_THAT(status,
                                  StatusIs(absl::StatusCode::kOutOfRange));
                      done.Notify();
                    }),
            Submission::kQueued);
  mutex.Await(absl::Condition(
      +[](absl::Notification* done) { return done->HasBeenNotified(); },
      &done));
}

TEST_F(UringBackingDeviceTest, FlushesShareAndAllComplete) {
  Open(/*rings=*/2, /*queue_depth=*/4);
  constexpr int kThreads = 4;
  constexpr int kFlushes = 50;
  std::atomic<int> done = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < kFlushes; ++n) {
        SubmitOne(Request(Operation::kFlush, 0, {},
                          [&](absl::Status status) { done += status.ok(); }),
                  n % 2 == 0 ? Submission::kDirect : Submission::kQueued);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  device_.reset();

  EXPECT_EQ(done, kThreads * kFlushes);
}

TEST_F(UringBackingDeviceTest, DestructionWaitsForWhatCompletionsSubmit) {
  for (int round = 0; round < 100; ++round) {
    Open(/*rings=*/4, /*queue_depth=*/2);
    TestBuffer buffer(4096);
    std::atomic<int> done = 0;
    constexpr int kChains = 8;
    for (int i = 0; i < kChains; ++i) {
      SubmitOne(Request(Operation::kRead, 0, buffer.bytes(),
                        [&](absl::Status) {
                          SubmitOne(Request(Operation::kFlush, 0, {},
                                            [&](absl::Status status) {
                                              done += status.ok();
                                            }),
                                    Submission::kQueued);
                        }),
                Submission::kQueued);
    }

    // Not reset(), since the completions find the device here.
    delete device_.get();
    static_cast<void>(device_.release());

    ASSERT_EQ(done, kChains);
  }
}

TEST_F(UringBackingDeviceTest, ThreadsAndRingsDoNotMixUpRequests) {
  Open(/*rings=*/4, /*queue_depth=*/4);
  constexpr int kThreads = 4;
  constexpr uint64_t kShare = kSize / kThreads;
  const uint64_t seed = RandomSeed();
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937_64 random(seed + i);
      TestBuffer in(64 * kKiB), out(64 * kKiB);
      for (int round = 0; round < 100; ++round) {
        const uint64_t length = (random() % 128 + 1) * 512;
        const uint64_t offset =
            i * kShare + random() % ((kShare - length) / 512) * 512;
        const auto written = in.bytes().first(length);
        const auto read = out.bytes().first(length);
        FillPattern(written, random());
        for (const auto& [operation, bytes] :
             {std::pair(Operation::kWrite, written),
              std::pair(Operation::kRead, read)}) {
          wrong += !SubmitAndWait(*device_,
                                  Request(operation, offset, bytes, nullptr))
                        .ok();
        }
        wrong += !SameBytes(written, read);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(wrong, 0);
}

TEST_F(UringBackingDeviceTest, RequestsOfMoreThanTheKernelTakesAreContinued) {
  constexpr uint64_t kHuge = 5 * kGiB;
  ASSERT_EQ(truncate(path_.c_str(), kHuge), 0);
  Open(/*rings=*/1, /*queue_depth=*/4);
  BackingRequest request;
  request.operation = Operation::kDiscard;
  request.length = kHuge;

  EXPECT_THAT(SubmitAndWait(*device_, std::move(request)), IsOk());
  EXPECT_EQ(device_->size(), kHuge);
}

}  // namespace
}  // namespace pcachefs
