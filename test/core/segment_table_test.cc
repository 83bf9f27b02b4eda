// Proves how segments change hands: generations before reuse (C2), shares with
// a reserve for the log (C10), and blocks that never cross a segment.

#include "core/segment_table.h"

#include <array>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/barrier.h"
#include "core/data_allocator.h"
#include "core/image_space.h"
#include "core/slot_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/geometry.h"
#include "meta/records.h"
#include "meta/slot_pair.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/random.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr ImageId kOwner(3);
constexpr ImageTag kTag(77);
const auto kExhausted = StatusIs(absl::StatusCode::kResourceExhausted);

class SegmentTableTest : public testing::Test {
 protected:
  SegmentTableTest()
      : geometry_(*Geometry::ForDevice(20 * kMiB, kMiB)),
        device_({.size = 20 * kMiB}),
        barrier_(device_) {
    for (uint32_t i = 0; i < geometry_.segment_count(); ++i) {
      SlotCursor cursor;
      EXPECT_THAT(StoreSlot(device_, barrier_, Slots(SegmentId(i)), cursor,
                            SegmentRecord{.generation = Generation(1)}),
                  IsOk());
    }
    EXPECT_THAT(barrier_.Persist(), IsOk());
    Reload();
  }

  std::array<MediaOffset, 2> Slots(SegmentId id) {
    return {geometry_.segment_record(id, 0), geometry_.segment_record(id, 1)};
  }
  void Reload() {
    table_ = std::make_unique<SegmentTable>(device_, geometry_, barrier_);
    ASSERT_THAT(table_->Load(), IsOk());
  }
  absl::StatusOr<SegmentId> Allocate() {
    return table_->Allocate(SegmentUse::kPayload, kOwner, kTag,
                            SequenceNumber(0));
  }

  const Geometry geometry_;
  FakeCacheDevice device_;
  Barrier barrier_;
  std::unique_ptr<SegmentTable> table_;
};

TEST_F(SegmentTableTest, AllocationIsStoredAndFoundAgain) {
  const auto id =
      table_->Allocate(SegmentUse::kLog, kOwner, kTag, SequenceNumber(9));
  ASSERT_THAT(id, IsOk());

  Reload();

  const SegmentRecord record = table_->record(*id);
  EXPECT_EQ(record.use, SegmentUse::kLog);
  EXPECT_EQ(record.owner, kOwner);
  EXPECT_EQ(record.image, kTag);
  EXPECT_EQ(record.first_sequence, SequenceNumber(9));
  EXPECT_EQ(record.generation, Generation(1));
  EXPECT_THAT(table_->OwnedBy(kOwner, kTag), ElementsAre(*id));
  EXPECT_THAT(table_->OwnedBy(kOwner, ImageTag(1)), IsEmpty());
  EXPECT_EQ(table_->free_count(), geometry_.segment_count() - 1);
}

TEST_F(SegmentTableTest, FreedSegmentIsHandedOutOnlyAfterRelease) {
  std::vector<SegmentId> ids;
  for (uint32_t i = 0; i < geometry_.segment_count(); ++i) {
    const auto id = Allocate();
    ASSERT_THAT(id, IsOk());
    ids.push_back(*id);
  }
  EXPECT_THAT(Allocate(), kExhausted);

  ASSERT_THAT(table_->StoreFreed(ids[5]), IsOk());
  EXPECT_THAT(Allocate(), kExhausted) << "its generation is not durable";
  ASSERT_THAT(barrier_.Persist(), IsOk());
  table_->Release({&ids[5], 1});

  EXPECT_THAT(Allocate(), IsOkAndHolds(ids[5]));
  EXPECT_EQ(table_->segment(ids[5]).generation(), Generation(2));
}

TEST_F(SegmentTableTest, ReleasedSegmentKeepsItsGenerationInAPowerCut) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const auto device = device_.Fork();
    Barrier barrier(*device);
    SegmentTable table(*device, geometry_, barrier);
    ASSERT_THAT(table.Load(), IsOk());
    ASSERT_THAT(barrier.Persist(), IsOk());
    device->StopAt(seed % 12);
    uint32_t released = 0;  // segments that were handed back
    for (; released < 5; ++released) {
      const auto id =
          table.Allocate(SegmentUse::kPayload, kOwner, kTag, SequenceNumber());
      if (!id.ok() || !table.StoreFreed(*id).ok() || !barrier.Persist().ok()) {
        break;
      }
      EXPECT_EQ(*id, SegmentId(released));
      table.Release({&*id, 1});
    }
    device->Stop();
    Random random(seed);
    device->CutPower(random);

    Barrier barrier_after(*device);
    SegmentTable after(*device, geometry_, barrier_after);
    ASSERT_THAT(after.Load(), IsOk());
    for (uint32_t i = 0; i < released; ++i) {
      EXPECT_EQ(after.segment(SegmentId(i)).generation(), Generation(2));
    }
  }
}

TEST_F(SegmentTableTest, OldestFreedIsHandedOutFirst) {
  EXPECT_THAT(Allocate(), IsOkAndHolds(SegmentId(0)));
  EXPECT_THAT(Allocate(), IsOkAndHolds(SegmentId(1)));
  const SegmentId id(0);
  ASSERT_THAT(table_->StoreFreed(id), IsOk());
  ASSERT_THAT(barrier_.Persist(), IsOk());
  table_->Release({&id, 1});

  for (uint32_t i = 2; i < geometry_.segment_count(); ++i) {
    EXPECT_THAT(Allocate(), IsOkAndHolds(SegmentId(i)));
  }
  EXPECT_THAT(Allocate(), IsOkAndHolds(id));
}

TEST_F(SegmentTableTest, OrphansAreFreedInANewLife) {
  ASSERT_THAT(Allocate(), IsOk());
  ASSERT_THAT(table_->Allocate(SegmentUse::kLog, ImageId(1), ImageTag(5),
                               SequenceNumber(1)),
              IsOk());
  Reload();

  ASSERT_THAT(
      table_->FreeOrphans([](ImageId id, ImageTag) { return id == kOwner; }),
      IsOk());

  EXPECT_EQ(table_->record(SegmentId(0)).use, SegmentUse::kPayload);
  EXPECT_EQ(table_->record(SegmentId(1)).use, SegmentUse::kFree);
  EXPECT_EQ(table_->segment(SegmentId(1)).generation(), Generation(2));
  EXPECT_EQ(table_->free_count(), geometry_.segment_count() - 1);
}

// Found by test/fuzz/device_fuzz_test: it was handed out in life 0, which no
// start accepts of a segment in use.
TEST_F(SegmentTableTest, SegmentThatWasNeverUsedBeginsWithLifeOne) {
  for (int slot : {0, 1}) {
    ASSERT_THAT(device_.Write(geometry_.segment_record(SegmentId(0), slot),
                              EncodeSlot(SegmentRecord{}, 8 + slot)),
                IsOk());
  }
  Reload();

  ASSERT_THAT(Allocate(), IsOkAndHolds(SegmentId(0)));
  Reload();

  EXPECT_EQ(table_->segment(SegmentId(0)).generation(), Generation(1));
}

TEST_F(SegmentTableTest, RecordWithBothCopiesDamagedIsNamed) {
  for (int slot : {0, 1}) {
    device_.FlipBit(geometry_.segment_record(SegmentId(7), slot).value() + 20,
                    1);
  }
  SegmentTable table(device_, geometry_, barrier_);

  EXPECT_THAT(table.Load(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("segment 7")));
}

TEST_F(SegmentTableTest, RecordsGetASecondCopyOnceTheyAreDurable) {
  while (table_->StoreCopies()) {
  }
  const auto id = Allocate();
  ASSERT_THAT(id, IsOk());
  EXPECT_FALSE(table_->StoreCopies());
  ASSERT_THAT(barrier_.Persist(), IsOk());
  EXPECT_TRUE(table_->StoreCopies());
  EXPECT_FALSE(table_->StoreCopies());

  for (const MediaOffset slot : Slots(*id)) {
    device_.FlipBit(slot.value() + 20, 3);
    Reload();
    EXPECT_EQ(table_->record(*id).use, SegmentUse::kPayload);
    // The damaged one is made anew.
    EXPECT_TRUE(table_->StoreCopies());
    Reload();
    EXPECT_FALSE(table_->StoreCopies());
  }
}

// A copy that is not durable yet is what the next version goes over.
TEST_F(SegmentTableTest, PowerCutsAroundACopyLeaveTheRecord) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto id = Allocate();
    ASSERT_THAT(id, IsOk());
    ASSERT_THAT(barrier_.Persist(), IsOk());
    while (table_->StoreCopies()) {
    }
    const Generation generation = table_->record(*id).generation;
    if (seed % 2 == 0) {
      ASSERT_THAT(table_->StoreFreed(*id), IsOk());
    }
    device_.Stop();
    Random random(seed);
    device_.CutPower(random);
    Reload();
    ASSERT_THAT(barrier_.Persist(), IsOk());
    const SegmentRecord record = table_->record(*id);
    if (record.use == SegmentUse::kFree) {
      EXPECT_EQ(seed % 2, 0);
      EXPECT_EQ(record.generation, Generation(generation.value() + 1));
    } else {
      EXPECT_EQ(record.use, SegmentUse::kPayload);
      EXPECT_EQ(record.generation, generation);
    }
  }
}

TEST_F(SegmentTableTest, DirtyMarksAreByBlock) {
  table_->PreparePayload(SegmentId(0));
  Segment& segment = table_->segment(SegmentId(0));

  segment.SetDirty(60, 80, true);
  segment.SetDirty(64, 64, false);
  segment.SetDirty(130, 1, false);

  for (uint32_t block = 0; block < geometry_.blocks_per_segment(); ++block) {
    const bool want = (block >= 60 && block < 64) ||
                      (block >= 128 && block < 140 && block != 130);
    EXPECT_EQ(segment.dirty(block), want) << block;
  }
}

class ImageSpaceTest : public SegmentTableTest {
 protected:
  ImageSpace space_{*table_, kOwner, kTag, kMinShare};
};

TEST_F(ImageSpaceTest, PayloadLeavesTheLogItsReserve) {
  for (uint32_t i = 0; i < kMinShare - kLogReserve; ++i) {
    EXPECT_EQ(space_.payload_left(), kMinShare - kLogReserve - i);
    ASSERT_THAT(space_.TakePayload(), IsOk());
  }
  EXPECT_THAT(space_.TakePayload(), kExhausted);
  ASSERT_THAT(space_.TakeLog(SequenceNumber(1)), IsOk());

  EXPECT_THAT(space_.TakeLog(SequenceNumber(1)), kExhausted);
  EXPECT_EQ(space_.used(), kMinShare - 1);
  space_.Returned(1);
  EXPECT_THAT(space_.TakePayload(), kExhausted);
  EXPECT_THAT(space_.TakeLog(SequenceNumber(1)), IsOk());
}

TEST_F(ImageSpaceTest, LastSegmentIsForMarksOfLostData) {
  while (space_.TakeLog(SequenceNumber(1)).ok()) {
  }
  EXPECT_EQ(space_.used(), kMinShare - 1);
  EXPECT_FALSE(space_.is_overdrawn());

  EXPECT_THAT(space_.TakeLog(SequenceNumber(1), /*for_marks=*/true), IsOk());

  EXPECT_TRUE(space_.is_overdrawn());
  EXPECT_THAT(space_.TakeLog(SequenceNumber(1), /*for_marks=*/true),
              kExhausted);
}

TEST_F(ImageSpaceTest, FailedTakeCountsNothing) {
  device_.FailNth(FakeCacheDevice::kWrite, 0);

  EXPECT_FALSE(space_.TakePayload().ok());

  EXPECT_EQ(space_.used(), 0u);
  EXPECT_EQ(table_->free_count(), geometry_.segment_count());
}

TEST_F(ImageSpaceTest, LastReferenceMakesASegmentFreeable) {
  const auto id = space_.TakePayload();
  ASSERT_THAT(id, IsOk());
  table_->segment(*id).AddReference(2);

  space_.DropReference(*id);
  EXPECT_EQ(space_.freeable_count(), 0u);
  space_.DropReference(*id);

  EXPECT_EQ(space_.freeable_count(), 1u);
  EXPECT_THAT(space_.TakeUnreferenced(), ElementsAre(*id));
  EXPECT_EQ(space_.freeable_count(), 0u);
}

TEST_F(ImageSpaceTest, BlocksLieSideBySideAndNeverCrossASegment) {
  DataAllocator allocator(space_, 1);
  const uint32_t in_segment = geometry_.blocks_per_segment();
  uint32_t blocks = 0;
  std::set<std::pair<SegmentId, uint32_t>> seen;
  while (true) {
    const auto allocation = allocator.Allocate(100);
    if (!allocation.ok()) {
      EXPECT_THAT(allocation, kExhausted);
      break;
    }
    ASSERT_GE(allocation->block_count, 1u);
    ASSERT_LE(allocation->first_block + allocation->block_count, in_segment);
    for (uint32_t i = 0; i < allocation->block_count; ++i) {
      EXPECT_TRUE(seen.emplace(allocation->segment, allocation->first_block + i)
                      .second);
    }
    blocks += allocation->block_count;
  }

  EXPECT_EQ(blocks, (kMinShare - kLogReserve) * in_segment);
}

TEST_F(ImageSpaceTest, OpenSegmentIsHeldUntilItIsClosed) {
  DataAllocator allocator(space_, 1);
  const auto allocation = allocator.Allocate(1);
  ASSERT_THAT(allocation, IsOk());

  allocator.Abandon(*allocation);
  EXPECT_EQ(space_.freeable_count(), 0u) << "more may be allocated in it";
  allocator.CloseCursors();

  EXPECT_THAT(space_.TakeUnreferenced(), ElementsAre(allocation->segment));
}

}  // namespace
}  // namespace pcachefs
