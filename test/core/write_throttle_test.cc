// Proves that writers are slowed down before the cache is full, that none waits
// longer than it must, and that writeback keeps to its rates and ages.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/status.h"
#include "core/write_throttle.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "iobackend/backing_device.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/scripted_disk.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::IsEmpty;
using Operation = ScriptedDisk::Operation;

constexpr uint64_t kBlock = kBlockSize;

class WriteThrottleTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_THAT(machine_.Start(), IsOk()); }

  std::string Block() { return std::string(kBlock, 'w'); }

  // Writes block after block until one has to wait; how many did not.
  uint64_t WriteUntilOneWaits(uint64_t most) {
    for (uint64_t i = 0; i < most; ++i) {
      waiting_ = machine_.StartWrite(next_++ * kBlock, Block());
      if (!waiting_->done) return i;
      EXPECT_THAT(waiting_->status, IsOk());
    }
    return most;
  }
  uint64_t dirty() { return machine_.status().dirty_bytes; }
  // Everything that was written is durable on the cache device.
  void Commit() {
    const Pending flush = machine_.StartFlush();
    machine_.core().barrier().Step();
    ASSERT_TRUE(flush->done);
  }
  // Bytes written to the disk within so long a time.
  uint64_t WrittenIn(absl::Duration time) {
    const uint64_t before = machine_.status().counters.writeback_bytes;
    for (absl::Duration at; at < time; at += absl::Milliseconds(10)) {
      EXPECT_TRUE(machine_.RunIdle());
      machine_.clock().Advance(absl::Milliseconds(10));
    }
    return machine_.status().counters.writeback_bytes - before;
  }

  CoreMachine machine_;
  uint64_t next_ = 0;
  Pending waiting_;
};

TEST_F(WriteThrottleTest, NobodyWaitsBelowTheZone) {
  machine_.disk().set_automatic(false);
  ASSERT_THAT(machine_.image().Change({.max_dirty = 64 * kBlock}), IsOk());

  EXPECT_EQ(WriteUntilOneWaits(1000), 48u);  // three quarters
}

TEST_F(WriteThrottleTest, InTheZoneAWriteWaitsALittleAtTheLimitUntilItDrains) {
  machine_.disk().set_automatic(false);
  ASSERT_THAT(machine_.image().Change({.max_dirty = 64 * kBlock}), IsOk());
  for (uint64_t blocks = 48; blocks < 64; ++blocks) {
    WriteUntilOneWaits(1000);
    ASSERT_EQ(dirty(), blocks * kBlock);
    machine_.clock().Advance(WriteThrottle::kMaxDelay - absl::Milliseconds(1));
    EXPECT_TRUE(machine_.RunIdle());
    EXPECT_FALSE(waiting_->done);
    machine_.clock().Advance(absl::Milliseconds(1));
    EXPECT_TRUE(machine_.RunIdle());
    EXPECT_TRUE(waiting_->done);
  }
  WriteUntilOneWaits(1000);
  EXPECT_EQ(dirty(), 64 * kBlock);
  EXPECT_EQ(machine_.status().state, HealthState::kStalled);

  machine_.clock().Advance(absl::Minutes(1));
  EXPECT_TRUE(machine_.RunIdle());
  EXPECT_FALSE(waiting_->done);

  machine_.disk().set_automatic(true);
  machine_.disk().CompleteAll();
  EXPECT_THAT(machine_.Await(waiting_), IsOk());
}

TEST_F(WriteThrottleTest, WhatReachesTheDiskLetsWritersOn) {
  machine_.disk().set_automatic(false);
  ASSERT_THAT(machine_.image().Change({.max_dirty = 64 * kBlock}), IsOk());
  WriteUntilOneWaits(1000);
  Commit();
  EXPECT_TRUE(machine_.RunIdle());
  ASSERT_THAT(machine_.disk().pending(), testing::SizeIs(1));

  machine_.disk().Complete();  // the data, its flush still to come
  EXPECT_TRUE(machine_.RunIdle());

  EXPECT_TRUE(waiting_->done);
}

TEST_F(WriteThrottleTest, OneWriteLargerThanMaxDirtyGoesThrough) {
  ASSERT_THAT(machine_.image().Change({.max_dirty = 1}), IsOk());

  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(machine_.Write(i * 8 * kBlock, std::string(8 * kBlock, 'x')),
                IsOk());
  }
}

TEST_F(WriteThrottleTest, UnalignedWritesWaitTooAndEnd) {
  machine_.disk().set_automatic(false);
  ASSERT_THAT(machine_.image().Change({.max_dirty = 8 * kBlock}), IsOk());
  ASSERT_EQ(WriteUntilOneWaits(1000), 6u);
  const Pending unaligned = machine_.StartWrite(100, "abc");
  machine_.disk().CompleteAll();
  EXPECT_FALSE(unaligned->done);

  machine_.disk().set_automatic(true);
  machine_.disk().CompleteAll();
  EXPECT_THAT(machine_.Await(unaligned), IsOk());
  EXPECT_THAT(machine_.Read(100, 3), IsOkAndHolds("abc"));
}

TEST_F(WriteThrottleTest, WritebackKeepsToItsCeiling) {
  constexpr uint64_t kRate = 64 * kBlock;
  ASSERT_THAT(machine_.image().Change({.writeback_rate_ceiling = kRate}),
              IsOk());
  WriteUntilOneWaits(512);
  Commit();

  const uint64_t written = WrittenIn(absl::Seconds(4));

  EXPECT_LE(written, 5 * kRate);
  EXPECT_GE(written, 3 * kRate);
}

TEST_F(WriteThrottleTest, WhoWaitsForADrainIsNotHeldBackByARate) {
  ASSERT_THAT(machine_.image().Change({.writeback_rate_ceiling = kBlock}),
              IsOk());
  WriteUntilOneWaits(512);

  const absl::Time begin = machine_.clock().Now();
  EXPECT_THAT(machine_.Drain(), IsOk());

  EXPECT_LT(machine_.clock().Now() - begin, absl::Seconds(5));
  EXPECT_EQ(dirty(), 0u);
}

TEST_F(WriteThrottleTest, AFloorHoldsWhileTheImageIsInUse) {
  constexpr uint64_t kRate = 16 * kBlock;
  ASSERT_THAT(machine_.image().Change({.writeback_rate_floor = kRate}),
              IsOk());
  WriteUntilOneWaits(512);
  Commit();

  uint64_t written = 0;
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(machine_.Read(0, kBlock), IsOk());
    written += WrittenIn(absl::Milliseconds(100));
  }
  EXPECT_LE(written, 3 * kRate);
  EXPECT_GE(written, kRate);

  WrittenIn(absl::Seconds(1));  // idle
  EXPECT_EQ(dirty(), 0u);
}

TEST_F(WriteThrottleTest, NothingDirtyGetsOlderThanItMay) {
  ASSERT_THAT(machine_.image().Change(
                  {.max_dirty_age = 10, .writeback_rate_ceiling = kBlock}),
              IsOk());
  absl::Duration oldest;
  for (int second = 0; second < 60; ++second) {
    WriteUntilOneWaits(8);
    WrittenIn(absl::Seconds(1));
    oldest = std::max(oldest, machine_.status().oldest_dirty);
  }
  EXPECT_LE(oldest, absl::Seconds(10));
  EXPECT_GE(oldest, absl::Seconds(3));  // the rate did hold it back
}

TEST_F(WriteThrottleTest, SettingsOutliveAStop) {
  ASSERT_THAT(machine_.image().Change({.order = WritebackOrder::kStrict,
                                       .max_dirty = 1 << 20,
                                       .max_dirty_age = 30,
                                       .writeback_rate_floor = 1000,
                                       .writeback_rate_ceiling = 2000,
                                       .sequential_cutoff = 4 << 20}),
              IsOk());
  machine_.CutPower(1);
  ASSERT_THAT(machine_.Start(), IsOk());

  const ImageStatus status = machine_.status();
  EXPECT_EQ(status.max_dirty, 1u << 20);
  EXPECT_EQ(status.max_dirty_age, 30u);
  EXPECT_EQ(status.writeback_rate_floor, 1000u);
  EXPECT_EQ(status.writeback_rate_ceiling, 2000u);
  EXPECT_EQ(status.sequential_cutoff, 4u << 20);
  EXPECT_THAT(machine_.image().Change({.writeback_rate_floor = 2001}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       testing::HasSubstr("floor of 2001")));
}

}  // namespace
}  // namespace pcachefs
