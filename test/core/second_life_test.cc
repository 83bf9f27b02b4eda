// Proves that clean data which was hit survives its segment, within a budget,
// and that moving it can neither bring old data back nor hold anybody up.

#include "core/second_life.h"

#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "core/options.h"
#include "core/reclaim.h"
#include "core/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/scripted_disk.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/fake_clock.h"
#include "test/fakes/random.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr uint64_t kBlock = kBlockSize;

class SecondLifeTest : public testing::Test {
 protected:
  // Eight segments of clean data, of which nothing was freed yet.
  void StartWith(uint64_t segments) {
    CoreMachine::Options options;
    options.image.gc_percent = 90;
    options.image.cache_size = segments * kMiB;
    machine_ = std::make_unique<CoreMachine>(options);
    ASSERT_THAT(machine_->Start(), IsOk());
  }
  void WriteAndDrain(uint64_t segments) {
    for (uint64_t i = 0; i < segments; ++i) {
      ASSERT_THAT(machine_->Write(i * kMiB, Content(i * kMiB, kMiB)), IsOk());
    }
    ASSERT_THAT(machine_->Drain(), IsOk());
    ASSERT_TRUE(machine_->RunIdle());
  }
  static std::string Content(uint64_t offset, uint64_t length) {
    std::string content(length, '\0');
    for (uint64_t i = 0; i < length; ++i) {
      content[i] = 'a' + (offset + i) / kBlock % 23;
    }
    return content;
  }
  void Hit(uint64_t offset, uint64_t length) {
    ASSERT_NE(machine_->PlaceOf(offset), 0u);
    ASSERT_THAT(machine_->Read(offset, length),
                IsOkAndHolds(Content(offset, length)));
  }
  void ReclaimTo(int gc_percent) {
    ASSERT_THAT(machine_->image().Change({.gc_percent = gc_percent}), IsOk());
    // Copies may be reclaimed as soon as they are committed.
    for (int i = 0; i < 5; ++i) {
      ASSERT_TRUE(machine_->RunIdle());
      machine_->clock().Advance(absl::Seconds(2));
    }
  }
  uint64_t moved() { return machine_->status().counters.second_life_bytes; }
  CoreMachine& machine() { return *machine_; }

 private:
  std::unique_ptr<CoreMachine> machine_;
};

TEST_F(SecondLifeTest, HitDataOutlivesItsSegment) {
  StartWith(16);
  WriteAndDrain(8);
  Hit(kBlock, 2 * kBlock);
  Hit(9 * kBlock + 512, 512);  // a part counts for its block
  const uint64_t place = machine().PlaceOf(kBlock);

  ReclaimTo(40);

  EXPECT_EQ(machine().PlaceOf(0), 0u);
  EXPECT_EQ(machine().PlaceOf(3 * kBlock), 0u);
  EXPECT_NE(machine().PlaceOf(kBlock), 0u);
  EXPECT_NE(machine().PlaceOf(kBlock), place);
  EXPECT_EQ(moved(), 3 * kBlock);
  EXPECT_EQ(machine().status().counters.second_lives, 2u);
  machine().disk().ClearHistory();
  Hit(kBlock, 2 * kBlock);
  Hit(9 * kBlock, kBlock);
  EXPECT_TRUE(machine().disk().history().empty()) << "not from the cache";
}

TEST_F(SecondLifeTest, CopyMustBeHitAgain) {
  StartWith(16);
  WriteAndDrain(8);
  Hit(0, kBlock);
  Hit(kBlock, kBlock);
  ReclaimTo(40);
  Hit(0, kBlock);

  ReclaimTo(0);

  EXPECT_EQ(moved(), 3 * kBlock);
  EXPECT_EQ(machine().PlaceOf(0), 0u) << "and once more after that";
}

TEST_F(SecondLifeTest, WhatWasHitOnceIsDroppedInTheEnd) {
  StartWith(16);
  WriteAndDrain(4);
  Hit(0, kBlock);

  ReclaimTo(0);

  EXPECT_EQ(moved(), kBlock);
  EXPECT_EQ(machine().PlaceOf(0), 0u);
  EXPECT_LE(machine().status().cache_used_segs, 2u);
  EXPECT_EQ(machine().status().counters.evicted_bytes, 4 * kMiB + 0u);
}

TEST_F(SecondLifeTest, ReclaimGainsThoughEverythingWasHit) {
  StartWith(16);
  WriteAndDrain(8);
  Hit(0, 8 * kMiB);

  ReclaimTo(40);

  EXPECT_LT(machine().status().cache_used_segs, 7u);
  EXPECT_GT(moved(), 0u);
  const ImageStatus::Counters counters = machine().status().counters;
  EXPECT_LE(counters.second_life_bytes, counters.evicted_bytes + kMiB);
  EXPECT_EQ(counters.payload_bytes,
            counters.write_bytes + counters.second_life_bytes);
  EXPECT_GT(counters.write_amplification(), 1);
}

TEST_F(SecondLifeTest, DamagedDataIsDropped) {
  StartWith(16);
  WriteAndDrain(8);
  Hit(0, 2 * kBlock);
  machine().Corrupt(machine().PlaceOf(0));

  ReclaimTo(40);

  EXPECT_EQ(machine().PlaceOf(0), 0u);
  EXPECT_EQ(machine().status().counters.checksum_errors, 1u);
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Content(0, kBlock)));
}

TEST_F(SecondLifeTest, OverwriteDuringTheMoveWins) {
  StartWith(16);
  WriteAndDrain(7);
  // The copy finds an open segment, so that reclaim's first change is the
  // payload, for which it holds no lock.
  ASSERT_THAT(machine().Write(7 * kMiB, std::string(kBlock, 'o')), IsOk());
  ASSERT_THAT(machine().Drain(), IsOk());
  Hit(0, 2 * kBlock);
  ASSERT_THAT(machine().image().Change({.gc_percent = 40}), IsOk());
  Pending write;
  bool entered = false;
  machine().cache_device().set_hook([&] {
    if (std::exchange(entered, true)) return;
    write = machine().StartWrite(0, std::string(kBlock, 'N'));
  });

  machine().core().reclaim().Step();
  machine().cache_device().set_hook(nullptr);

  ASSERT_NE(write, nullptr);
  ASSERT_TRUE(write->done);
  EXPECT_EQ(moved(), 0u);
  EXPECT_THAT(machine().Read(0, 2 * kBlock),
              IsOkAndHolds(std::string(kBlock, 'N') + Content(kBlock, kBlock)));
  machine().CutPower(3);
  ASSERT_THAT(machine().Start(), IsOk());
  EXPECT_THAT(machine().Read(kBlock, kBlock),
              IsOkAndHolds(Content(kBlock, kBlock)));
}

TEST_F(SecondLifeTest, NothingIsMovedWhileWritersWait) {
  StartWith(6);
  WriteAndDrain(3);
  Hit(0, 3 * kMiB);
  machine().disk().set_automatic(false);
  Pending last;
  for (int i = 0; i < 100 && (last == nullptr || last->done); ++i) {
    last = machine().StartWrite(4 * kMiB, std::string(kMiB / 2, 'w'));
  }
  ASSERT_FALSE(last->done);
  machine().disk().set_automatic(true);

  EXPECT_THAT(machine().Await(last), IsOk());

  EXPECT_EQ(moved(), 0u);
  EXPECT_GT(machine().status().counters.evicted_bytes, 0u);
}

TEST_F(SecondLifeTest, NoRoomForTheCopyIsNoFailure) {
  StartWith(6);
  WriteAndDrain(3);
  ASSERT_EQ(machine().core().space().payload_left(), 0u);
  Hit(0, 3 * kMiB - kBlock);

  ReclaimTo(0);

  EXPECT_EQ(machine().status().state, HealthState::kRunning);
  EXPECT_THAT(machine().Read(0, 3 * kMiB), IsOkAndHolds(Content(0, 3 * kMiB)));
}

TEST_F(SecondLifeTest, PowerCutAtAnyInstantOfTheMoveLosesNothing) {
  StartWith(16);
  WriteAndDrain(8);
  for (uint64_t i = 0; i < 25; ++i) Hit(i * 7 * kBlock, kBlock);
  int changes = 0;
  int starts = 0;
  machine().cache_device().set_hook([&] {
    if (++changes % 2 != 0) return;
    const auto fork = machine().cache_device().Fork();
    Random random(starts);
    fork->CutPower(random);
    FakeClock clock;
    ScriptedDisk disk(machine().disk().size());
    disk.Fill(0, machine().disk().Content(0, machine().disk().size()));
    const auto cache =
        Cache::Open(*fork, CacheOptions{.start_threads = false}, clock);
    ASSERT_THAT(cache, IsOk());
    const auto image = (*cache)->Attach("vm1", disk.Open(), {});
    ASSERT_THAT(image, IsOk());
    std::string bytes(2 * kMiB, '?');
    bool done = false;
    (*image)->Read({ImageOffset(0), bytes.size()},
                   std::as_writable_bytes(std::span(bytes)),
                   [&](absl::Status status) {
                     EXPECT_THAT(status, IsOk());
                     done = true;
                   });
    for (int i = 0; i < 100 && !done; ++i) fork->Step();
    ASSERT_TRUE(done);
    ASSERT_EQ(bytes, Content(0, bytes.size()));
    ++starts;
  });

  ReclaimTo(40);
  machine().cache_device().set_hook(nullptr);

  EXPECT_EQ(moved(), 25 * kBlock);
  EXPECT_GT(starts, 15);
}

}  // namespace
}  // namespace pcachefs
