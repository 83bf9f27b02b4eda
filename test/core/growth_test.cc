// Proves that images follow their backing devices, and that a cache device that
// has become larger is used, also when power goes off on the way.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "core/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/geometry.h"
#include "meta/units.h"
#include "test/core/images_machine.h"
#include "test/core/scripted_disk.h"
#include "test/fakes/fake_cache_device.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class ImageGrowthTest : public testing::Test {
 protected:
  ImageGrowthTest() {
    EXPECT_THAT(machine_.Open(), IsOk());
    EXPECT_THAT(machine_.Attach("vm1", disk_), IsOk());
  }
  uint64_t size() { return machine_.image("vm1").size(); }

  const std::string a_ = std::string(100'000, 'a');
  ScriptedDisk disk_{8 * kMiB};
  ImagesMachine machine_;
};

TEST_F(ImageGrowthTest, IsSeenWhileInUse) {
  ASSERT_THAT(machine_.Write("vm1", 8 * kMiB - 4096, std::string(4096, 'z')),
              IsOk());
  EXPECT_THAT(machine_.Write("vm1", 9 * kMiB, a_),
              StatusIs(absl::StatusCode::kOutOfRange));
  disk_.Resize(12 * kMiB);

  machine_.RunIdle();

  EXPECT_EQ(size(), 12 * kMiB);
  EXPECT_EQ(machine_.image("vm1").status().size, 12 * kMiB);
  ASSERT_THAT(machine_.Write("vm1", 12 * kMiB - a_.size(), a_), IsOk());
  ASSERT_THAT(machine_.Flush("vm1"), IsOk());
  machine_.CutPower(1);
  ASSERT_THAT(machine_.Open(), IsOk());
  ASSERT_THAT(machine_.Attach("vm1", disk_), IsOk());
  EXPECT_EQ(machine_.Read("vm1", 12 * kMiB - a_.size(), a_.size()), a_);
  ASSERT_THAT(machine_.Drain("vm1"), IsOk());
  EXPECT_EQ(disk_.Content(12 * kMiB - a_.size(), a_.size()), a_);
}

TEST_F(ImageGrowthTest, IsSeenAtAttach) {
  ASSERT_THAT(machine_.Write("vm1", 0, a_), IsOk());
  ASSERT_THAT(machine_.cache().Close(), IsOk());
  disk_.Resize(12 * kMiB);

  ASSERT_THAT(machine_.Open(), IsOk());
  ASSERT_THAT(machine_.Attach("vm1", disk_), IsOk());

  EXPECT_EQ(size(), 12 * kMiB);
  EXPECT_EQ(machine_.Read("vm1", 0, a_.size()), a_);
  ASSERT_THAT(machine_.Write("vm1", 11 * kMiB, a_), IsOk());
  // From now on it must not be smaller than that.
  ASSERT_THAT(machine_.cache().Close(), IsOk());
  disk_.Resize(8 * kMiB);
  ASSERT_THAT(machine_.Open(), IsOk());
  EXPECT_THAT(machine_.Attach("vm1", disk_),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("8388608"), HasSubstr("12582912"))));
}

TEST_F(ImageGrowthTest, ShrinkingInUseIsToldUntilItIsUndone) {
  disk_.Resize(4 * kMiB);
  machine_.RunIdle();
  ImageStatus status = machine_.image("vm1").status();
  EXPECT_EQ(status.state, HealthState::kDegraded);
  EXPECT_THAT(status.state_reason, HasSubstr("became smaller"));
  EXPECT_EQ(size(), 8 * kMiB);
  // A writeback that works says nothing of that.
  ASSERT_THAT(machine_.Write("vm1", 0, a_), IsOk());
  ASSERT_THAT(machine_.Drain("vm1"), IsOk());
  EXPECT_EQ(machine_.image("vm1").status().state, HealthState::kDegraded);

  disk_.Resize(8 * kMiB);
  machine_.RunIdle();

  status = machine_.image("vm1").status();
  EXPECT_EQ(status.state, HealthState::kRunning) << status.state_reason;
}

TEST_F(ImageGrowthTest, PowerCutKeepsTheOldOrTheNewSize) {
  ASSERT_THAT(machine_.Write("vm1", 0, a_), IsOk());
  ASSERT_THAT(machine_.Drain("vm1"), IsOk());
  machine_.RunIdle();
  disk_.Resize(12 * kMiB);
  for (uint64_t cut = 0; cut < 8; ++cut) {
    for (uint64_t seed = 0; seed < 6; ++seed) {
      SCOPED_TRACE(testing::Message() << "cut " << cut << ", seed " << seed);
      ImagesMachine machine(machine_);
      ASSERT_THAT(machine.Open(), IsOk());
      disk_.Resize(8 * kMiB);
      ASSERT_THAT(machine.Attach("vm1", disk_), IsOk());
      disk_.Resize(12 * kMiB);
      machine.device().StopAt(cut);
      machine.RunIdle();
      machine.CutPower(seed);
      ASSERT_THAT(machine.Open(), IsOk());
      const uint64_t known = machine.cache().KnownImages()[0].size;
      EXPECT_TRUE(known == 8 * kMiB || known == 12 * kMiB) << known;
      ASSERT_THAT(machine.Attach("vm1", disk_), IsOk());
      EXPECT_EQ(machine.Read("vm1", 0, a_.size()), a_);
    }
  }
}

class CacheGrowthTest : public testing::Test {
 protected:
  CacheGrowthTest() {
    EXPECT_THAT(machine_.Open(), IsOk());
    EXPECT_THAT(machine_.Attach("vm1", disk_, 0), IsOk());
    EXPECT_THAT(machine_.Write("vm1", 0, a_), IsOk());
    EXPECT_THAT(machine_.Flush("vm1"), IsOk());
  }
  uint32_t segments(ImagesMachine& machine) {
    return machine.cache().status().segments;
  }
  // Everything of the larger cache can be used, and survives.
  void Use(ImagesMachine& machine, uint32_t expected) {
    ASSERT_EQ(segments(machine), expected);
    ASSERT_EQ(machine.Read("vm1", 0, a_.size()), a_);
    ASSERT_THAT(machine.cache().SetShare("vm1", expected * kMiB), IsOk());
    disk_.Fail(ScriptedDisk::Operation::kWrite,
               absl::UnavailableError("so that all stays in the cache"));
    const uint64_t end = expected * 3 / 4 * kMiB;  // all of it may be dirty
    for (uint64_t at = 0; at < end; at += kMiB) {
      ASSERT_THAT(machine.Write("vm1", at, std::string(kMiB, 'n')), IsOk());
    }
    ASSERT_THAT(machine.Flush("vm1"), IsOk());
    machine.CutPower(7);
    ASSERT_THAT(machine.Open(), IsOk());
    ASSERT_THAT(machine.Attach("vm1", disk_), IsOk());
    ASSERT_EQ(machine.Read("vm1", end - kMiB, kMiB), std::string(kMiB, 'n'));
    disk_.Fail(ScriptedDisk::Operation::kWrite, absl::OkStatus());
  }

  const std::string a_ = std::string(100'000, 'a');
  ScriptedDisk disk_{80 * kMiB};
  ImagesMachine machine_{{.size = 60 * kMiB, .first_size = 40 * kMiB}};
};

TEST_F(CacheGrowthTest, GivesSegmentsWhileInUse) {
  const uint32_t before = segments(machine_);
  EXPECT_THAT(machine_.cache().Grow(), IsOkAndHolds(0u));
  machine_.device().Grow();

  EXPECT_THAT(machine_.cache().Grow(), IsOkAndHolds(20u));

  EXPECT_EQ(machine_.cache().unassigned_bytes(), 20 * kMiB);
  EXPECT_THAT(machine_.cache().Grow(), IsOkAndHolds(0u));
  Use(machine_, before + 20);
}

TEST_F(CacheGrowthTest, IsSeenAtStart) {
  const uint32_t before = segments(machine_);
  ASSERT_THAT(machine_.cache().Close(), IsOk());
  machine_.device().Grow();
  ASSERT_THAT(machine_.device().Refresh(), IsOk());
  ASSERT_THAT(machine_.Open(), IsOk());
  ASSERT_THAT(machine_.Attach("vm1", disk_), IsOk());
  Use(machine_, before + 20);
}

TEST_F(CacheGrowthTest, PowerCutAtEveryChange) {
  const uint32_t before = segments(machine_);
  uint64_t cut = 0;
  for (bool finished = false; !finished; ++cut) {
    for (uint64_t seed = 0; seed < 4 && !finished; ++seed) {
      SCOPED_TRACE(testing::Message() << "cut " << cut << ", seed " << seed);
      ImagesMachine machine(machine_);
      ASSERT_THAT(machine.Open(), IsOk());
      ASSERT_THAT(machine.Attach("vm1", disk_), IsOk());
      machine.device().Grow();
      machine.device().StopAt(cut);
      const auto grown = machine.cache().Grow();
      finished = !machine.device().stopped();
      EXPECT_TRUE(!finished || grown.ok());
      machine.CutPower(seed);
      // The start after it grows to the end, or has nothing left to do; power
      // goes off again on the way.
      machine.device().StopAt(seed * 2 + cut % 3);
      (void)machine.Open();
      machine.CutPower(seed + 1);
      ASSERT_THAT(machine.Open(), IsOk());
      ASSERT_THAT(machine.Attach("vm1", disk_), IsOk());
      ASSERT_NO_FATAL_FAILURE(Use(machine, before + 20));
      // Either copy of the superblock will do.
      for (int slot : {0, 1}) {
        ImagesMachine copy(machine);
        copy.device().FlipBit(SuperblockOffset(slot).value() + 100, 1);
        ASSERT_THAT(copy.Open(), IsOk());
        EXPECT_EQ(segments(copy), before + 20);
      }
    }
  }
  EXPECT_GT(cut, 5u);
}

TEST_F(CacheGrowthTest, FaultAtEveryCallLeavesItAsItWasOrGrown) {
  for (const uint32_t kind : {FakeCacheDevice::kWrite,
                              FakeCacheDevice::kPersist}) {
    for (uint64_t index = 0;; ++index) {
      SCOPED_TRACE(testing::Message() << "kind " << kind << " " << index);
      ImagesMachine machine(machine_);
      ASSERT_THAT(machine.Open(), IsOk());
      ASSERT_THAT(machine.Attach("vm1", disk_), IsOk());
      machine.device().Grow();
      machine.device().FailNth(kind, index);
      (void)machine.cache().Grow();
      const bool fired = machine.device().fault_fired();
      EXPECT_EQ(machine.Read("vm1", 0, a_.size()), a_);
      machine.CutPower(index);
      ASSERT_THAT(machine.Open(), IsOk());
      ASSERT_THAT(machine.Attach("vm1", disk_), IsOk());
      EXPECT_EQ(machine.Read("vm1", 0, a_.size()), a_);
      if (!fired) break;
    }
  }
}

}  // namespace
}  // namespace pcachefs
