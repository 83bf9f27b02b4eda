// Proves what repair mends and what it gives up, that it never gives up more
// than it must, and that it can be taken back.

#include "core/repair.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/check.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/geometry.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/media_editor.h"
#include "test/fakes/fake_cache_device.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kBlock = kBlockSize;

std::string Block(char letter) { return std::string(kBlock, letter); }

// Block i holds the letter 'a' + i: 0 to 3 are clean, 4 to 7 dirty.
class RepairTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(machine_.Start(), IsOk());
    geometry_ = std::make_unique<Geometry>(machine_.core().table().geometry());
    for (uint64_t i = 0; i < 4; ++i) WriteBlock(i);
    ASSERT_THAT(machine_.Drain(), IsOk());
    for (uint64_t i = 4; i < 8; ++i) WriteBlock(i);
    ASSERT_THAT(machine_.Stop(), IsOk());
  }

  void WriteBlock(uint64_t i) {
    sets_.push_back(machine_.core().log().head());
    const Pending write = machine_.StartWrite(i * kBlock, Block('a' + i));
    ASSERT_TRUE(write->done);
    ASSERT_THAT(write->status, IsOk());
  }
  CacheDevice& device() { return machine_.cache_device(); }
  // Breaks the key set of block i.
  void BreakSet(uint64_t i) {
    machine_.Corrupt(
        geometry_->position({sets_[i].segment, sets_[i].offset}).value() + 8);
  }
  RepairPlan Plan() {
    const uint64_t changes = machine_.cache_device().changes();
    auto plan = PlanRepair(device());
    EXPECT_THAT(plan, IsOk());
    EXPECT_EQ(machine_.cache_device().changes(), changes);
    return *std::move(plan);
  }
  void Apply(const RepairPlan& plan) {
    for (const RepairStep& step : plan.steps) {
      ASSERT_THAT(ApplyStores(device(), step.stores), IsOk());
    }
  }
  bool IsDamaged() {
    const auto report = CheckCache(device(), {});
    EXPECT_THAT(report, IsOk());
    return report->damaged();
  }
  void ExpectBlock(uint64_t i, const std::string& content) {
    EXPECT_THAT(machine_.Read(i * kBlock, kBlock), IsOkAndHolds(content)) << i;
  }

  CoreMachine machine_;
  std::unique_ptr<Geometry> geometry_;
  std::vector<LogPosition> sets_;  // by block
};

TEST_F(RepairTest, SoundCacheNeedsNothing) {
  const RepairPlan plan = Plan();

  EXPECT_THAT(plan.steps, IsEmpty());
  EXPECT_THAT(plan.beyond_repair, IsEmpty());
}

TEST_F(RepairTest, SuperblockCopyIsMadeAnew) {
  for (const int copy : {0, 1}) {
    machine_.Corrupt(SuperblockOffset(copy).value() + 100);
    EXPECT_TRUE(IsDamaged());

    const RepairPlan plan = Plan();
    ASSERT_THAT(plan.steps, SizeIs(1));
    EXPECT_FALSE(plan.steps[0].gives_up);
    EXPECT_THAT(plan.steps[0].message, HasSubstr("superblock"));
    Apply(plan);

    EXPECT_FALSE(IsDamaged());
  }
  ASSERT_THAT(machine_.Start(), IsOk());
  for (uint64_t i = 0; i < 8; ++i) ExpectBlock(i, Block('a' + i));
}

TEST_F(RepairTest, DamageInTheCleanPartCostsNoData) {
  BreakSet(1);
  ASSERT_TRUE(IsDamaged());

  const RepairPlan plan = Plan();
  ASSERT_THAT(plan.steps, SizeIs(1));
  EXPECT_TRUE(plan.steps[0].gives_up);  // marks of lost data, if there were any
  EXPECT_THAT(plan.steps[0].message, HasSubstr("no data is lost"));
  Apply(plan);

  EXPECT_FALSE(IsDamaged());
  ASSERT_THAT(machine_.Start(), IsOk());
  EXPECT_EQ(machine_.status().dirty_bytes, 4 * kBlock);
  for (uint64_t i = 0; i < 8; ++i) ExpectBlock(i, Block('a' + i));
  ASSERT_THAT(machine_.Drain(), IsOk());
  EXPECT_EQ(machine_.disk().Content(7 * kBlock, kBlock), Block('h'));
}

TEST_F(RepairTest, DamageInTheDirtyPartCutsTheLogThere) {
  BreakSet(6);
  ASSERT_TRUE(IsDamaged());

  const RepairPlan plan = Plan();
  ASSERT_THAT(plan.steps, SizeIs(1));
  EXPECT_TRUE(plan.steps[0].gives_up);
  EXPECT_THAT(plan.steps[0].message,
              HasSubstr("8192 bytes of dirty data before it are kept"));
  Apply(plan);

  EXPECT_FALSE(IsDamaged());
  ASSERT_THAT(machine_.Start(), IsOk());
  for (uint64_t i = 0; i < 6; ++i) ExpectBlock(i, Block('a' + i));
  for (uint64_t i = 6; i < 8; ++i) ExpectBlock(i, std::string(kBlock, '\0'));
  // And goes on from there.
  ASSERT_THAT(machine_.Write(6 * kBlock, Block('z')), IsOk());
  ASSERT_THAT(machine_.Flush(), IsOk());
  machine_.CutPower(3);
  ASSERT_THAT(machine_.Start(), IsOk());
  ExpectBlock(6, Block('z'));
  ASSERT_THAT(machine_.Drain(), IsOk());
}

TEST_F(RepairTest, LaterLogSegmentsGoWithTheCut) {
  ASSERT_THAT(machine_.Start(), IsOk());
  machine_.disk().Fail(BackingRequest::Operation::kWrite,
                       absl::UnavailableError("off"));
  const SegmentId first = machine_.core().log().head().segment;
  sets_.clear();
  WriteBlock(8);
  sets_.push_back(machine_.core().log().head());
  while (machine_.core().log().head().segment == first) {
    ASSERT_TRUE(machine_.StartZero(9 * kBlock, kBlock)->done);
  }
  WriteBlock(10);
  const Pending flush = machine_.StartFlush();
  machine_.core().barrier().Step();
  ASSERT_TRUE(flush->done);
  ASSERT_THAT(machine_.Stop(), IsOk());
  BreakSet(1);
  ASSERT_TRUE(IsDamaged());

  Apply(Plan());

  EXPECT_FALSE(IsDamaged());
  ASSERT_THAT(machine_.Start(), IsOk());
  ExpectBlock(8, Block('i'));
  ExpectBlock(10, std::string(kBlock, '\0'));
}

TEST_F(RepairTest, ImageWhoseRecordIsGoneIsForgotten) {
  for (const int slot : {0, 1}) {
    machine_.Corrupt(geometry_->image_record(ImageId(0), slot).value() + 70);
  }
  ASSERT_TRUE(IsDamaged());

  const RepairPlan plan = Plan();
  ASSERT_THAT(plan.steps, SizeIs(1));
  EXPECT_TRUE(plan.steps[0].gives_up);
  EXPECT_THAT(plan.steps[0].message, HasSubstr("its dirty data is lost"));
  Apply(plan);

  EXPECT_FALSE(IsDamaged());
  ASSERT_THAT(machine_.Start(), IsOk());  // as a new image
  for (uint64_t i = 0; i < 4; ++i) ExpectBlock(i, Block('a' + i));
  for (uint64_t i = 4; i < 8; ++i) ExpectBlock(i, std::string(kBlock, '\0'));
}

TEST_F(RepairTest, ImageWhoseTailsAreGoneIsForgotten) {
  for (const int slot : {0, 1}) {
    machine_.Corrupt(geometry_->log_tails(ImageId(0), slot).value() + 20);
  }
  const RepairPlan plan = Plan();
  ASSERT_THAT(plan.steps, SizeIs(1));
  EXPECT_EQ(plan.steps[0].image, "vm1");
  Apply(plan);

  EXPECT_FALSE(IsDamaged());
}

TEST_F(RepairTest, SegmentTableIsBeyondRepair) {
  for (const int slot : {0, 1}) {
    machine_.Corrupt(geometry_->segment_record(SegmentId(3), slot).value() +
                     20);
  }
  const RepairPlan plan = Plan();

  EXPECT_THAT(plan.steps, IsEmpty());
  ASSERT_THAT(plan.beyond_repair, SizeIs(1));
  EXPECT_THAT(plan.beyond_repair[0], HasSubstr("segment 3"));
}

TEST_F(RepairTest, CanBeTakenBackByteForByte) {
  BreakSet(6);
  machine_.Corrupt(SuperblockOffset(1).value() + 100);
  std::vector<std::byte> before(device().size());
  ASSERT_THAT(device().Read(MediaOffset(0), before), IsOk());
  const RepairPlan plan = Plan();
  const auto undo = ReadForUndo(device(), plan.steps);
  ASSERT_THAT(undo, IsOk());
  Apply(plan);
  std::vector<std::byte> after(device().size());
  ASSERT_THAT(device().Read(MediaOffset(0), after), IsOk());
  EXPECT_NE(before, after);

  ASSERT_THAT(ApplyStores(device(), *undo), IsOk());

  ASSERT_THAT(device().Read(MediaOffset(0), after), IsOk());
  EXPECT_EQ(before, after);
}

TEST_F(RepairTest, CutShortItCanBeDoneAgain) {
  BreakSet(5);
  const RepairPlan plan = Plan();
  ASSERT_THAT(plan.steps, SizeIs(1));
  const auto undo = ReadForUndo(device(), plan.steps);
  ASSERT_THAT(undo, IsOk());
  for (size_t done = 0; done <= plan.steps[0].stores.size(); ++done) {
    ASSERT_THAT(ApplyStores(device(), *undo), IsOk());
    const std::vector<RepairStep::Store> part(
        plan.steps[0].stores.begin(), plan.steps[0].stores.begin() + done);
    ASSERT_THAT(ApplyStores(device(), part), IsOk());

    Apply(Plan());

    EXPECT_FALSE(IsDamaged()) << done;
  }
}

}  // namespace
}  // namespace pcachefs
