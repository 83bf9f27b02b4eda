// Proves what becomes of images whose backing device takes no writes: nothing is
// written back, what is overwritten or discarded makes room again, a full share
// refuses writes and nothing else, and power may go at any instant of carrying.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "core/image_space.h"
#include "core/options.h"
#include "core/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/records.h"
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

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr uint64_t kBlock = kBlockSize;
constexpr uint64_t kShare = 14;  // segments of 1 MiB
const auto kRefused = StatusIs(absl::StatusCode::kFailedPrecondition);
const auto kNoRoom = StatusIs(absl::StatusCode::kResourceExhausted);

class ReadOnlyBackingTest : public testing::Test {
 protected:
  ReadOnlyBackingTest() {
    CoreMachine::Options options;
    options.image_size = 16 * kMiB;
    options.image.read_only_backing = true;
    options.image.cache_size = kShare * kMiB;
    machine_ = std::make_unique<CoreMachine>(options);
    shown_.assign(options.image_size, 'd');
    machine().disk().Fill(0, shown_);
  }
  void SetUp() override { ASSERT_THAT(machine().Start(), IsOk()); }
  void TearDown() override {
    if (!machine().is_on()) return;
    EXPECT_EQ(machine().disk().Content(0, machine().disk().size()),
              std::string(machine().disk().size(), 'd'));
    for (const char* change : {"write", "zero", "discard", "flush"}) {
      EXPECT_THAT(machine().disk().history(),
                  Not(Contains(StartsWith(change))));
    }
  }

  absl::Status Write(uint64_t offset, uint64_t length, char letter) {
    const absl::Status written =
        machine().Write(offset, std::string(length, letter));
    if (written.ok()) shown_.replace(offset, length, length, letter);
    return written;
  }
  absl::Status Discard(uint64_t offset, uint64_t length) {
    const absl::Status discarded = machine().Discard(offset, length);
    if (discarded.ok()) shown_.replace(offset, length, length, '\0');
    return discarded;
  }
  void ExpectShown() {
    for (uint64_t at = 0; at < shown_.size(); at += kMiB) {
      const auto bytes = machine().Read(at, kMiB);
      ASSERT_THAT(bytes, IsOk());
      ASSERT_TRUE(*bytes == shown_.substr(at, kMiB)) << "at " << at;
    }
  }
  // Different data until there is no room; how many MiB there were.
  uint64_t FillUp() {
    for (uint64_t i = 0;; ++i) {
      const absl::Status written = Write(i * kMiB, kMiB, 'a' + i);
      if (written.ok()) continue;
      EXPECT_THAT(written, kNoRoom);
      return i;
    }
  }

  CoreMachine& machine() { return *machine_; }
  const std::string& shown() const { return shown_; }

 private:
  std::unique_ptr<CoreMachine> machine_;
  std::string shown_;
};

TEST_F(ReadOnlyBackingTest, WhatIsWrittenStaysInTheCache) {
  ASSERT_THAT(Write(kBlock, 3 * kBlock, 'w'), IsOk());
  ASSERT_THAT(Write(2 * kBlock + 7, 100, 'u'), IsOk());
  ASSERT_THAT(Discard(9 * kBlock, kBlock), IsOk());
  ASSERT_THAT(machine().Flush(), IsOk());
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(machine().RunIdle());
    machine().clock().Advance(absl::Seconds(60));
  }
  ExpectShown();
  EXPECT_EQ(machine().status().dirty_bytes, 4 * kBlock + 512);
  EXPECT_TRUE(machine().status().read_only_backing);

  ASSERT_THAT(machine().Stop(), IsOk());
  ASSERT_THAT(machine().Start(), IsOk());
  ExpectShown();
  machine().CutPower(1);
  ASSERT_THAT(machine().Start(), IsOk());
  EXPECT_TRUE(machine().status().read_only_backing);
  ExpectShown();
}

TEST_F(ReadOnlyBackingTest, OverwritingNeedsNoMoreThanTheShare) {
  // Some that stays, between much that does not.
  for (uint64_t i = 0; i < 100; ++i) {
    ASSERT_THAT(Write(i % 3 * kMiB, kMiB, 'a' + i % 26), IsOk()) << i;
    ASSERT_THAT(Write(4 * kMiB + i * 3 * kBlock, kBlock, 'A' + i % 26), IsOk());
  }
  ExpectShown();
  EXPECT_LE(machine().status().cache_used_segs, kShare);
  EXPECT_EQ(machine().status().state, HealthState::kRunning);
  ASSERT_THAT(machine().Flush(), IsOk());
  machine().CutPower(1);
  ASSERT_THAT(machine().Start(), IsOk());
  ExpectShown();
}

TEST_F(ReadOnlyBackingTest, SmallOverwritesMakeRoomToo) {
  Random random(7);
  for (int i = 0; i < 6000; ++i) {
    ASSERT_THAT(Write(random.Below(800) * 512 + random.Below(2) * 3, 2048,
                      'a' + i % 26),
                IsOk())
        << i;
  }
  ExpectShown();
}

TEST_F(ReadOnlyBackingTest, FullShareRefusesWritesAndNothingElse) {
  const uint64_t filled = FillUp();
  EXPECT_GE(filled, kShare - kLogReserve - kCarryReserve - 2);
  EXPECT_EQ(machine().status().state, HealthState::kDegraded);
  EXPECT_THAT(machine().status().state_reason, HasSubstr("image_cache_size"));
  ExpectShown();
  EXPECT_THAT(machine().Flush(), IsOk());
  // At once, without carrying everything around each time.
  const uint64_t payload = machine().status().counters.payload_bytes;
  EXPECT_THAT(Write(15 * kMiB, kMiB, 'n'), kNoRoom);
  EXPECT_EQ(machine().status().counters.payload_bytes, payload);

  ASSERT_THAT(Discard(kMiB, 2 * kMiB), IsOk());
  EXPECT_THAT(Write(15 * kMiB, kMiB, 'n'), IsOk());
  ASSERT_TRUE(machine().RunIdle());
  EXPECT_EQ(machine().status().state, HealthState::kRunning);
  ExpectShown();
}

// To look for room means to carry everything around once.
TEST_F(ReadOnlyBackingTest, RoomIsLookedForAgainWhenAQuarterOfASegmentIsFree) {
  FillUp();
  const auto carried = [&] { return machine().status().counters.payload_bytes; };
  const uint64_t before = carried();

  ASSERT_THAT(Discard(kMiB, 128 * kKiB), IsOk());
  EXPECT_THAT(Write(15 * kMiB, kMiB, 'n'), kNoRoom);
  EXPECT_EQ(carried(), before);
  EXPECT_EQ(machine().status().state, HealthState::kDegraded);

  ASSERT_THAT(Discard(2 * kMiB, 128 * kKiB), IsOk());
  Write(15 * kMiB, kMiB, 'n').IgnoreError();  // it may still be too much
  EXPECT_GT(carried(), before);
  ExpectShown();
}

TEST_F(ReadOnlyBackingTest, MoreOfTheCacheMakesRoom) {
  const uint64_t filled = FillUp();
  ASSERT_THAT(machine().cache().SetShare("vm1", (kShare + 2) * kMiB), IsOk());
  EXPECT_THAT(Write(filled * kMiB, kMiB, 'n'), IsOk());
  ExpectShown();
}

// Reads fill the share with what reclaim may have.
TEST_F(ReadOnlyBackingTest, ReadsNeverKeepWritersOut) {
  for (int round = 0; round < 3; ++round) {
    for (uint64_t at = 0; at < 16 * kMiB; at += kMiB) {
      ASSERT_THAT(machine().Read(at, kMiB), IsOk());
    }
    ASSERT_TRUE(machine().RunIdle());
    ASSERT_THAT(Write(round * kMiB, 2 * kMiB, 'a' + round), IsOk());
  }
  ExpectShown();
  EXPECT_EQ(machine().status().state, HealthState::kRunning);
}

TEST_F(ReadOnlyBackingTest, NewReadsEvictOldOnes) {
  ASSERT_THAT(Write(0, kMiB, 'w'), IsOk());
  for (uint64_t at = 0; at < 16 * kMiB; at += kMiB) {
    ASSERT_THAT(machine().Read(at, kMiB), IsOk());
    ASSERT_TRUE(machine().RunIdle());
  }
  EXPECT_NE(machine().PlaceOf(15 * kMiB), 0u);
  EXPECT_EQ(machine().PlaceOf(2 * kMiB), 0u);
  EXPECT_NE(machine().PlaceOf(0), 0u);
  ExpectShown();
}

TEST_F(ReadOnlyBackingTest, SmallLivePiecesAreCarriedToo) {
  for (uint64_t i = 0; i < 500; ++i) {
    ASSERT_THAT(Write(i * kBlock, 512, 'a' + i % 26), IsOk());
  }
  for (uint64_t i = 0; i < 60; ++i) {
    ASSERT_THAT(Write(8 * kMiB, kMiB, 'A' + i % 26), IsOk()) << i;
  }
  ExpectShown();
}

// Each death may leave the rest of the segment unused that was being filled.
TEST_F(ReadOnlyBackingTest, DeathsNearFullDoNotUseUpTheReserve) {
  FillUp();
  ASSERT_THAT(Discard(0, 4 * kMiB), IsOk());
  for (uint64_t i = 0; i < 20; ++i) {
    for (int j = 0; j < 3; ++j) {
      ASSERT_THAT(Write(j * 300 * kBlock, 100 * kBlock + 512, 'A' + i), IsOk())
          << "after " << i << " deaths";
    }
    i % 2 == 0 ? machine().Kill() : (void)machine().Stop();
    ASSERT_THAT(machine().Start(), IsOk());
    ExpectShown();
  }
}

TEST_F(ReadOnlyBackingTest, WhoFitsIsNotRefusedWithThoseWhoDoNot) {
  FillUp();
  const Pending large = machine().StartWrite(12 * kMiB, std::string(kMiB, 'x'));
  const Pending discard = machine().StartDiscard(0, kMiB);
  ASSERT_TRUE(machine().RunIdle());
  EXPECT_TRUE(large->done && discard->done);
  EXPECT_THAT(discard->status, IsOk());
}

TEST_F(ReadOnlyBackingTest, WhoWaitsIsAnsweredInOrder) {
  FillUp();
  std::vector<Pending> waiting;
  for (int i = 0; i < 20; ++i) {
    waiting.push_back(machine().StartWrite(i * kMiB / 2, std::string(kMiB, 'x')));
  }
  ASSERT_TRUE(machine().RunIdle());
  for (const Pending& write : waiting) {
    EXPECT_TRUE(write->done);
    if (write->status.ok()) continue;
    EXPECT_THAT(write->status, kNoRoom);
  }
}

TEST_F(ReadOnlyBackingTest, BadPayloadIsLostAndTheRestIsCarried) {
  ASSERT_THAT(Write(0, 4 * kBlock, 'p'), IsOk());
  machine().Corrupt(machine().PlaceOf(2 * kBlock));
  for (uint64_t i = 0; i < 20; ++i) {
    ASSERT_THAT(Write(kMiB, kMiB, 'a' + i), IsOk());
  }
  EXPECT_THAT(machine().Read(2 * kBlock, kBlock),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(machine().Read(kBlock, kBlock),
              IsOkAndHolds(std::string(kBlock, 'p')));
  EXPECT_THAT(machine().Read(3 * kBlock, kBlock),
              IsOkAndHolds(std::string(kBlock, 'p')));
  EXPECT_EQ(machine().status().state, HealthState::kDegraded);
  ASSERT_THAT(machine().Stop(), IsOk());
  ASSERT_THAT(machine().Start(), IsOk());
  EXPECT_THAT(machine().Read(2 * kBlock, kBlock),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(ReadOnlyBackingTest, WhatCannotBeReadForOnceIsNotLost) {
  ASSERT_THAT(Write(0, 4 * kBlock, 'p'), IsOk());
  for (uint64_t i = 0; i < 30; ++i) {
    machine().cache_device().FailNth(FakeCacheDevice::kRead, i);
    ASSERT_THAT(Write(kMiB, kMiB, 'a' + i % 26), IsOk());
    machine().cache_device().ClearFaults();
  }
  ASSERT_TRUE(machine().RunIdle());
  ExpectShown();
}

TEST_F(ReadOnlyBackingTest, WhatWouldWriteToTheDeviceIsRefused) {
  ASSERT_THAT(Write(0, kBlock, 'w'), IsOk());
  EXPECT_THAT(machine().Drain(), kRefused);
  EXPECT_THAT(machine().SetMode(CacheMode::kWritethrough), kRefused);
  EXPECT_THAT(machine().SetMode(CacheMode::kWriteonly), IsOk());
  EXPECT_THAT(machine().cache().SetShare("vm1", 11 * kMiB), kNoRoom);
  EXPECT_THAT(machine().cache().Detach("vm1", DetachKind::kRemove), Not(IsOk()));
  ExpectShown();
}

TEST_F(ReadOnlyBackingTest, ManyImagesMayHaveTheSameDevice) {
  ASSERT_THAT(Write(0, kBlock, 'w'), IsOk());
  ASSERT_THAT(machine().Stop(), IsOk());
  auto cache = Cache::Open(machine().cache_device(), {.start_threads = false},
                           machine().clock());
  ASSERT_THAT(cache, IsOk());
  ImageOptions options;
  EXPECT_THAT((*cache)->Attach("vm2", machine().disk().Open(), options),
              StatusIs(absl::StatusCode::kAlreadyExists));
  options.read_only_backing = true;
  options.cache_size = 5 * kMiB;
  EXPECT_THAT((*cache)->Attach("vm2", machine().disk().Open(), options),
              Not(IsOk()));
  options.mode = CacheMode::kWritearound;
  EXPECT_THAT((*cache)->Attach("vm2", machine().disk().Open(), options),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

// What was flushed is there, and of the rest a beginning, whenever power goes.
TEST_F(ReadOnlyBackingTest, PowerCutAtAnyInstantOfCarryingLosesNothing) {
  // Live and dead by turns, so that each carried segment has both.
  for (uint64_t i = 0; i < 3; ++i) {
    for (uint64_t at = 0; at < kMiB; at += 16 * kBlock) {
      ASSERT_THAT(Write(i * kMiB + at, 16 * kBlock, 'a' + i), IsOk());
    }
    ASSERT_THAT(Write(8 * kMiB, kMiB, 'o'), IsOk());
  }
  ASSERT_THAT(machine().Flush(), IsOk());
  const std::string flushed = shown().substr(0, 3 * kMiB);
  int changes = 0;
  int starts = 0;
  machine().cache_device().set_hook([&] {
    if (++changes % 5 != 0) return;
    const auto fork = machine().cache_device().Fork();
    Random random(changes);
    fork->CutPower(random);
    FakeClock clock;
    ScriptedDisk disk(machine().disk().size());
    disk.Fill(0, std::string(disk.size(), 'd'));
    const auto cache =
        Cache::Open(*fork, CacheOptions{.start_threads = false}, clock);
    ASSERT_THAT(cache, IsOk());
    const auto image = (*cache)->Attach("vm1", disk.Open(), {});
    ASSERT_THAT(image, IsOk());
    std::string bytes(3 * kMiB, '?');
    bool done = false;
    (*image)->Read({ImageOffset(0), bytes.size()},
                   std::as_writable_bytes(std::span(bytes)),
                   [&](absl::Status status) {
                     EXPECT_THAT(status, IsOk());
                     done = true;
                   });
    for (int i = 0; i < 1000 && !done; ++i) fork->Step();
    ASSERT_TRUE(done);
    ASSERT_TRUE(bytes == flushed) << "change " << changes;
    ++starts;
  });

  for (uint64_t i = 0; i < 12; ++i) {
    ASSERT_THAT(Write(8 * kMiB, kMiB, 'A' + i), IsOk());
    if (HasFatalFailure()) break;
  }
  machine().cache_device().set_hook(nullptr);

  EXPECT_GT(machine().status().key_tail.sequence.value(), 48u)
      << "nothing was carried";
  EXPECT_GT(starts, 20);
  ExpectShown();
}

}  // namespace
}  // namespace pcachefs
