// The cache with all its threads: clients that write, read, discard and flush
// at the same time, while images come and go, modes and settings change, and
// status is asked for. Says the most under the thread sanitizer. On one thread,
// with every interleaving chosen: the other tests of core/.
//
// Each client has blocks of its own, between those of the others, and knows
// what they hold; and all write to some that they share, of which every sector
// must be somebody's.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "core/image_map.h"
#include "core/options.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/fake_disk.h"
#include "test/fakes/random.h"
#include "test/testing/random_seed.h"
#include "test/testing/status_matchers.h"
#include "tools/system_clock.h"

namespace pcachefs {
namespace {

using ::testing::IsEmpty;

constexpr uint64_t kBlock = kBlockSize;
constexpr int kClients = 4;
constexpr uint64_t kOwnBlocks = 512;  // of all clients
constexpr uint64_t kShared = kOwnBlocks * kBlock;
constexpr uint64_t kSharedSize = 64 * kBlock;
constexpr uint64_t kImageSize = 4 * kMiB;
constexpr int kOperations = 400;  // of each client

absl::Status Wait(absl::FunctionRef<void(CachedImage::Done)> start) {
  absl::Notification answered;
  absl::Status answer;
  start([&](absl::Status status) {
    answer = std::move(status);
    answered.Notify();
  });
  answered.WaitForNotification();
  return answer;
}

absl::Status Write(CachedImage& image, uint64_t offset,
                   const std::string& bytes) {
  return Wait([&](CachedImage::Done done) {
    image.Write({ImageOffset(offset), bytes.size()},
                std::as_bytes(std::span(bytes)),
                CachedImage::Payload::kCopyIfWaiting, std::move(done));
  });
}

std::string Read(CachedImage& image, uint64_t offset, uint64_t length) {
  // Into a buffer that goes with the callback, or into one that is used for
  // something else at once.
  const bool is_shared = offset / kBlock % 2 == 0;
  auto bytes = std::make_shared<std::string>(length, '?');
  EXPECT_THAT(Wait([&](CachedImage::Done done) {
                image.Read({ImageOffset(offset), length},
                           std::as_writable_bytes(std::span(*bytes)),
                           [keep = is_shared ? bytes : nullptr,
                            done = std::move(done)](
                               absl::Status status) mutable { done(status); },
                           is_shared ? CachedImage::Buffer::kUntilDestroyed
                                     : CachedImage::Buffer::kUntilAnswered);
              }),
              IsOk());
  return is_shared ? *bytes : std::exchange(*bytes, std::string(length, '!'));
}

absl::Status Flush(CachedImage& image) {
  return Wait([&](CachedImage::Done done) { image.Flush(std::move(done)); });
}

absl::Status Drain(CachedImage& image) {
  return Wait([&](CachedImage::Done done) { image.Drain(std::move(done)); });
}

class Client {
 public:
  Client(int number, uint64_t seed)
      : number_(number), random_(seed), content_(kOwnBlocks / kClients, '\0') {}

  void Run(CachedImage& image) {
    for (int i = 0; i < kOperations && !testing::Test::HasFailure(); ++i) {
      RunOne(image);
    }
  }

  void VerifyAll(CachedImage& image) const {
    for (size_t i = 0; i < content_.size(); ++i) Verify(image, i);
  }
  // What the backing device should hold once all is drained.
  void VerifyAll(const FakeDisk& disk) const {
    const FakeMedia media = disk.media();
    for (size_t i = 0; i < content_.size(); ++i) {
      std::string bytes(kBlock, '?');
      media.visible().Read(PlaceOf(i), std::as_writable_bytes(std::span(bytes)));
      EXPECT_EQ(bytes, std::string(kBlock, content_[i])) << "at " << PlaceOf(i);
    }
  }

 private:
  uint64_t PlaceOf(size_t index) const {
    return (index * kClients + number_) * kBlock;
  }

  void RunOne(CachedImage& image) {
    const size_t index = random_.Below(content_.size());
    const uint64_t dice = random_.Below(100);
    if (dice < 45) {
      content_[index] = static_cast<char>('a' + random_.Below(26));
      EXPECT_THAT(Write(image, PlaceOf(index),
                        std::string(kBlock, content_[index])),
                  IsOk());
    } else if (dice < 70) {
      Verify(image, index);
    } else if (dice < 78) {
      content_[index] = '\0';
      const ImageRange range = {ImageOffset(PlaceOf(index)), kBlock};
      EXPECT_THAT(Wait([&](CachedImage::Done done) {
                    dice % 2 == 0 ? image.Discard(range, std::move(done))
                                  : image.Zero(range, std::move(done));
                  }),
                  IsOk());
    } else if (dice < 83) {
      EXPECT_THAT(Flush(image), IsOk());
    } else {
      Share(image);
    }
  }

  // One sector is never torn, whoever else writes.
  void Share(CachedImage& image) {
    const uint64_t length = kSectorSize * (1 + random_.Below(24));
    const uint64_t offset =
        kShared +
        random_.Below((kSharedSize - length) / kSectorSize) * kSectorSize;
    const char letter = static_cast<char>('A' + number_);
    EXPECT_THAT(Write(image, offset, std::string(length, letter)), IsOk());
    const std::string bytes = Read(image, offset, length);
    for (size_t at = 0; at < length; at += kSectorSize) {
      EXPECT_EQ(bytes.substr(at, kSectorSize),
                std::string(kSectorSize, bytes[at]));
      EXPECT_TRUE(bytes[at] >= 'A' && bytes[at] < 'A' + kClients);
    }
  }

  void Verify(CachedImage& image, size_t index) const {
    EXPECT_EQ(Read(image, PlaceOf(index), kBlock),
              std::string(kBlock, content_[index]))
        << "client " << number_ << ", block " << index;
  }

  const uint64_t number_;
  Random random_;
  std::string content_;  // a letter per block
};

class ThreadsTest : public testing::Test {
 protected:
  ThreadsTest() {
    EXPECT_THAT(Cache::Format(device_, {.segment_size = kMiB}, clock_), IsOk());
  }
  ~ThreadsTest() override {
    cache_.reset();
    is_ending_ = true;
    hardware_.join();
  }

  void Start() {
    auto cache = Cache::Open(
        device_, {.commit_interval = absl::Milliseconds(50)}, clock_);
    ASSERT_THAT(cache, IsOk());
    cache_ = *std::move(cache);
    // Small enough that reclaim is always behind.
    auto image = cache_->Attach("vm1", disk_.Open(), {.cache_size = 8 * kMiB});
    ASSERT_THAT(image, IsOk());
    image_ = *image;
  }

  // While clients run, everything that an administrator may do.
  void Administer() {
    constexpr std::array kModes = {
        CacheMode::kWritethrough, CacheMode::kWriteonly,
        CacheMode::kWritearound, CacheMode::kPassthrough,
        CacheMode::kWriteback};
    for (int i = 0; !clients_are_done_ || i < 2; ++i) {
      EXPECT_GE(cache_->status().images.size(), 1u);
      EXPECT_THAT(image_->Change({.gc_percent = i % 2 == 0 ? 20 : 70,
                                  .order = i % 2 == 0
                                               ? WritebackOrder::kStrict
                                               : WritebackOrder::kRelaxed}),
                  IsOk());
      (void)DrawImageMap(*image_, 16);
      EXPECT_THAT(ExplainPlace(*image_, ImageOffset(0)), IsOk());
      EXPECT_THAT(Drain(*image_), IsOk());
      EXPECT_THAT(cache_->SetShare("vm1", (i % 2 == 0 ? 7 : 8) * kMiB), IsOk());
      AttachAndDetachAnother();
      EXPECT_THAT(Wait([&](CachedImage::Done done) {
                    image_->SetMode(kModes[i % kModes.size()], std::move(done));
                  }),
                  IsOk());
    }
    EXPECT_THAT(Wait([&](CachedImage::Done done) {
                  image_->SetMode(CacheMode::kWriteback, std::move(done));
                }),
                IsOk());
  }

  void AttachAndDetachAnother() {
    auto other =
        cache_->Attach("vm2", other_disk_.Open(), {.cache_size = 6 * kMiB});
    ASSERT_THAT(other, IsOk());
    EXPECT_THAT(Write(**other, 512, std::string(5000, 'o')), IsOk());
    EXPECT_THAT(Flush(**other), IsOk());
    EXPECT_THAT(cache_->Detach("vm2", DetachKind::kDiscard), IsOk());
  }

  void RunClients(std::vector<Client>& clients) {
    clients_are_done_ = false;
    std::thread administrator([this] { Administer(); });
    std::vector<std::thread> threads;
    for (Client& client : clients) {
      threads.emplace_back([&client, this] { client.Run(*image_); });
    }
    for (std::thread& thread : threads) thread.join();
    clients_are_done_ = true;
    administrator.join();
  }

  SystemClock clock_;
  FakeCacheDevice device_{{.size = 26 * kMiB, .try_read_miss_percent = 20}};
  FakeDisk disk_{{.size = kImageSize}};
  FakeDisk other_disk_{{.size = kImageSize, .identity = "ino=2,fsid=other"}};
  std::unique_ptr<Cache> cache_;
  CachedImage* image_ = nullptr;
  std::atomic<bool> clients_are_done_ = false;
  std::atomic<bool> is_ending_ = false;
  // Completes what the devices were asked for.
  std::thread hardware_{[this] {
    while (!is_ending_) {
      const bool first = disk_.Step();
      const bool second = other_disk_.Step();
      const bool third = device_.Step();
      if (!first && !second && !third) absl::SleepFor(absl::Microseconds(20));
    }
  }};
};

TEST_F(ThreadsTest, WhatEachWroteIsThere) {
  const uint64_t seed = RandomSeed();
  std::vector<Client> clients;
  for (int i = 0; i < kClients; ++i) clients.emplace_back(i, seed + i);
  ASSERT_NO_FATAL_FAILURE(Start());

  for (int run = 0; run < 2; ++run) {
    RunClients(clients);
    for (const Client& client : clients) client.VerifyAll(*image_);
    EXPECT_THAT(Drain(*image_), IsOk());
    for (const Client& client : clients) client.VerifyAll(disk_);
    ASSERT_THAT(cache_->Close(), IsOk());
    cache_.reset();
    ASSERT_NO_FATAL_FAILURE(Start());
    for (const Client& client : clients) client.VerifyAll(*image_);
  }
  EXPECT_THAT(disk_.mistakes(), IsEmpty());
}

}  // namespace
}  // namespace pcachefs
