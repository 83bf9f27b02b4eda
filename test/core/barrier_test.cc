// Proves that everyone who waits for durability shares persists, and is never
// told of one that does not cover his writes (C9).

#include "core/barrier.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/types.h"
#include "test/fakes/fake_cache_device.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;

class BarrierTest : public testing::Test {
 protected:
  void Write(uint64_t offset, char letter) {
    const std::array<std::byte, 1> bytes = {std::byte(letter)};
    ASSERT_THAT(device_.Write(MediaOffset(offset), bytes), IsOk());
  }
  char Durable(uint64_t offset) {
    std::array<std::byte, 1> bytes;
    device_.media().durable().Read(offset, bytes);
    return static_cast<char>(bytes[0]);
  }

  FakeCacheDevice device_{{.size = 64 * 4096}};
  Barrier barrier_{device_};
};

TEST_F(BarrierTest, WhatWasWrittenBeforeIsDurable) {
  Write(0, 'a');
  const uint64_t ticket = barrier_.WriteTicket();
  EXPECT_FALSE(barrier_.Covered(ticket));

  ASSERT_THAT(barrier_.Persist(), IsOk());

  EXPECT_EQ(Durable(0), 'a');
  EXPECT_TRUE(barrier_.Covered(ticket));
}

TEST_F(BarrierTest, AfterStopNobodyIsLeftWaiting) {
  barrier_.Stop();
  bool done = false;
  barrier_.PersistAsync([&](absl::Status status) { done = status.ok(); });
  EXPECT_TRUE(done);
}

TEST_F(BarrierTest, PersistThatBeganEarlierCoversNoLaterWrite) {
  uint64_t ticket = 0;
  bool first = true;
  device_.set_hook([&] {
    if (!std::exchange(first, false)) return;
    Write(0, 'a');  // while the persist is on its way
    ticket = barrier_.WriteTicket();
  });

  ASSERT_THAT(barrier_.Persist(), IsOk());

  EXPECT_EQ(Durable(0), '\0');
  EXPECT_FALSE(barrier_.Covered(ticket));
  ASSERT_THAT(barrier_.Persist(), IsOk());
  EXPECT_TRUE(barrier_.Covered(ticket));
}

TEST_F(BarrierTest, WhoeverComesDuringAPersistSharesTheNextOne) {
  constexpr int kWaiters = 8;
  std::vector<std::thread> waiters;
  std::atomic<int> begun = 0;
  std::atomic<int> durable = 0;
  std::atomic<bool> first = true;
  device_.set_hook([&] {
    if (!first.exchange(false)) return;
    for (int i = 0; i < kWaiters; ++i) {
      waiters.emplace_back([&, i] {
        Write(4096 * (i + 1), 'w');
        ++begun;
        EXPECT_THAT(barrier_.Persist(), IsOk());
        durable += Durable(4096 * (i + 1)) == 'w';
      });
    }
    // All have written during the first persist.
    while (begun < kWaiters) std::this_thread::yield();
  });

  ASSERT_THAT(barrier_.Persist(), IsOk());
  for (std::thread& waiter : waiters) waiter.join();

  EXPECT_EQ(durable, kWaiters);
  // One for all who were there; stragglers may need some more.
  EXPECT_LE(barrier_.persist_count(), 1u + kWaiters);
}

TEST_F(BarrierTest, ThoseWhoDoNotWaitShareOnePersist) {
  int answered = 0;
  Write(0, 'a');
  for (int i = 0; i < 5; ++i) {
    barrier_.PersistAsync([&](absl::Status status) {
      EXPECT_THAT(status, IsOk());
      EXPECT_EQ(Durable(0), 'a');
      ++answered;
    });
  }
  EXPECT_EQ(answered, 0);

  EXPECT_TRUE(barrier_.Step());

  EXPECT_EQ(answered, 5);
  EXPECT_EQ(barrier_.persist_count(), 1u);
  EXPECT_FALSE(barrier_.Step());
}

TEST_F(BarrierTest, CheapPersistIsDoneAtOnce) {
  FakeCacheDevice memory({.size = 4096, .persist_is_cheap = true});
  Barrier barrier(memory);
  bool answered = false;

  barrier.PersistAsync([&](absl::Status) { answered = true; });

  EXPECT_TRUE(answered);
}

TEST_F(BarrierTest, FailureIsForEver) {
  device_.FailNth(FakeCacheDevice::kPersist, 0);
  absl::Status async;
  barrier_.PersistAsync([&](absl::Status status) { async = status; });
  Write(0, 'a');
  const uint64_t ticket = barrier_.WriteTicket();

  EXPECT_TRUE(barrier_.Step());
  device_.ClearFaults();
  device_.Resume();  // the device itself would work again

  const auto failed = StatusIs(absl::StatusCode::kUnavailable);
  EXPECT_THAT(async, failed);
  EXPECT_TRUE(barrier_.failed());
  EXPECT_THAT(barrier_.Persist(), failed);
  EXPECT_THAT(barrier_.status(), failed);
  EXPECT_FALSE(barrier_.Covered(ticket));
}

TEST_F(BarrierTest, FirstReasonIsKept) {
  barrier_.Poison(absl::UnavailableError("first"));
  barrier_.Poison(absl::UnavailableError("second"));

  EXPECT_THAT(barrier_.status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("first")));
  EXPECT_THAT(barrier_.Persist(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(BarrierTest, CommitterIsWokenForWorkAndForTheEnd) {
  absl::Notification answered;
  std::thread committer([&] {
    while (barrier_.WaitForWork()) barrier_.Step();
  });
  barrier_.PersistAsync([&](absl::Status) { answered.Notify(); });

  answered.WaitForNotification();
  barrier_.Stop();
  committer.join();

  EXPECT_EQ(barrier_.persist_count(), 1u);
}

}  // namespace
}  // namespace pcachefs
