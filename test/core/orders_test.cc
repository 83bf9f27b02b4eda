// Proves what the orders of writeback may do: which epochs reach the backing
// device together, and what status says of it meanwhile, also after a crash.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "core/image_settings.h"
#include "core/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/scripted_disk.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Operation = ScriptedDisk::Operation;

constexpr uint64_t kBlock = kBlockSize;

std::string Block(char letter) { return std::string(kBlock, letter); }

class OrdersTest : public testing::Test {
 protected:
  void StartIn(WritebackOrder order, uint64_t batch = 16 * kMiB) {
    CoreMachine::Options options;
    options.image.order = order;
    options.cache_options.writeback_batch = batch;
    machine_ = std::make_unique<CoreMachine>(options);
    ASSERT_THAT(machine_->Start(), IsOk());
    ASSERT_TRUE(machine_->RunIdle());
    disk().set_automatic(false);
  }
  // An epoch that overwrites block 0 and writes `blocks` of its own.
  void WriteEpoch(uint64_t epoch, uint64_t blocks = 1) {
    ASSERT_TRUE(machine().StartWrite(0, Block('a' + epoch))->done);
    for (uint64_t i = 0; i < blocks; ++i) {
      // Every second block, so that each is a request of its own.
      const uint64_t block = 2 + epoch * 64 + i * 2;
      ASSERT_TRUE(
          machine().StartWrite(block * kBlock, Block('a' + epoch))->done);
    }
  }
  void Flush() {
    const Pending flush = machine().StartFlush();
    machine().core().barrier().Step();
    ASSERT_TRUE(flush->done);
  }
  void WriteEpochs(uint64_t count, uint64_t blocks = 1) {
    for (uint64_t epoch = 0; epoch < count; ++epoch) {
      WriteEpoch(epoch, blocks);
      Flush();
    }
  }
  absl::Status SetOrder(WritebackOrder order) {
    return machine().image().Change({.order = order});
  }
  // Ends the writes and the flush of the batch in flight.
  void FinishBatch() {
    disk().CompleteAll();
    machine().cache().Step();
    ASSERT_THAT(disk().pending(), ElementsAre("flush"));
    EXPECT_FALSE(machine().status().dirty_bytes == 0);
    disk().Complete();
    machine().cache().Step();
  }

  CoreMachine& machine() { return *machine_; }
  ScriptedDisk& disk() { return machine_->disk(); }

 private:
  std::unique_ptr<CoreMachine> machine_;
};

TEST_F(OrdersTest, StrictTakesOneEpochAtATimeAndIsAlwaysConsistent) {
  StartIn(WritebackOrder::kStrict);
  WriteEpochs(3);
  for (int epoch = 0; epoch < 3; ++epoch) {
    ASSERT_TRUE(machine().RunIdle());
    EXPECT_EQ(disk().pending().size(), 2u);
    EXPECT_TRUE(machine().status().backing_consistent);
    EXPECT_FALSE(machine().status().group_in_flight);
    FinishBatch();
    EXPECT_EQ(disk().Content(0, 1), std::string(1, 'a' + epoch));
  }
}

TEST_F(OrdersTest, LooserOrdersPutEpochsTogetherAndTheNewestWins) {
  for (const WritebackOrder order :
       {WritebackOrder::kGrouped, WritebackOrder::kRelaxed}) {
    StartIn(order);
    WriteEpochs(3);
    EXPECT_TRUE(machine().status().backing_consistent);
    ASSERT_TRUE(machine().RunIdle());

    EXPECT_THAT(disk().pending(),
                ElementsAre("write 0+4096", "write 8192+4096",
                            "write 270336+4096", "write 532480+4096"));
    EXPECT_TRUE(machine().status().group_in_flight);
    EXPECT_FALSE(machine().status().backing_consistent);
    FinishBatch();

    EXPECT_FALSE(machine().status().group_in_flight);
    EXPECT_TRUE(machine().status().backing_consistent);
    EXPECT_EQ(machine().status().dirty_bytes, 0u);
    EXPECT_EQ(disk().Content(0, 1), std::string(1, 'c'));
  }
}

TEST_F(OrdersTest, AGroupEndsOnAnEpochBoundary) {
  // A group has room for 16 blocks; an epoch has 6.
  StartIn(WritebackOrder::kGrouped, 4 * kBlock);
  WriteEpochs(4, 5);
  ASSERT_TRUE(machine().RunIdle());
  EXPECT_EQ(disk().pending().size(), 1u + 2 * 5);
  FinishBatch();
  EXPECT_EQ(disk().Content(0, 1), std::string(1, 'b'));
  EXPECT_TRUE(machine().status().backing_consistent);

  ASSERT_TRUE(machine().RunIdle());
  EXPECT_EQ(disk().pending().size(), 1u + 2 * 5);
  FinishBatch();
  EXPECT_EQ(disk().Content(0, 1), std::string(1, 'd'));
}

TEST_F(OrdersTest, RelaxedTakesWhatFits) {
  StartIn(WritebackOrder::kRelaxed, 4 * kBlock);
  WriteEpochs(4, 5);
  ASSERT_TRUE(machine().RunIdle());
  // 16 blocks were written, of which block 0 three times.
  EXPECT_EQ(disk().pending().size(), 14u);
  EXPECT_FALSE(machine().status().backing_consistent);
  FinishBatch();
  EXPECT_TRUE(machine().status().backing_consistent);
}

TEST_F(OrdersTest, AGroupLeavesAnEpochThatIsNotOver) {
  StartIn(WritebackOrder::kGrouped);
  WriteEpochs(2);
  WriteEpoch(2);
  ASSERT_THAT(machine().core().barrier().Persist(), IsOk());
  machine().core().log().MarkDurable(machine().core().log().last());
  ASSERT_TRUE(machine().RunIdle());
  EXPECT_EQ(disk().pending().size(), 3u);
  FinishBatch();
  EXPECT_EQ(disk().Content(0, 1), std::string(1, 'b'));

  // What is left is one epoch, of which any part may be there.
  ASSERT_TRUE(machine().RunIdle());
  EXPECT_EQ(disk().pending().size(), 2u);
  EXPECT_TRUE(machine().status().backing_consistent);
}

TEST_F(OrdersTest, AnEpochLargerThanAGroupIsNoGroup) {
  StartIn(WritebackOrder::kGrouped, 2 * kBlock);
  WriteEpochs(2, 20);
  ASSERT_TRUE(machine().RunIdle());
  EXPECT_EQ(disk().pending().size(), 8u);
  EXPECT_TRUE(machine().status().backing_consistent);
  EXPECT_FALSE(machine().status().group_in_flight);
}

TEST_F(OrdersTest, NothingUncoveredIsWrittenBackInAnyOrder) {
  for (const WritebackOrder order :
       {WritebackOrder::kGrouped, WritebackOrder::kRelaxed}) {
    StartIn(order);
    WriteEpoch(0);
    ASSERT_TRUE(machine().RunIdle());
    EXPECT_THAT(disk().pending(), IsEmpty());
  }
}

TEST_F(OrdersTest, AGroupThatFailedIsInconsistentUntilAllOfItIsThere) {
  StartIn(WritebackOrder::kRelaxed);
  WriteEpochs(3);
  ASSERT_TRUE(machine().RunIdle());
  ASSERT_EQ(disk().pending().size(), 4u);
  disk().Complete(3);  // of the last epoch
  disk().Complete(0, absl::UnavailableError("no"));
  disk().CompleteAll();
  ASSERT_TRUE(machine().RunIdle());
  EXPECT_FALSE(machine().status().group_in_flight);
  EXPECT_FALSE(machine().status().backing_consistent);

  // Strictly from now on; but what is there is there.
  ASSERT_THAT(SetOrder(WritebackOrder::kStrict), IsOk());
  machine().clock().Advance(absl::Seconds(10));
  for (int epoch = 0; epoch < 3; ++epoch) {
    ASSERT_TRUE(machine().RunIdle());
    EXPECT_EQ(disk().pending().size(), 2u);
    EXPECT_FALSE(machine().status().backing_consistent);
    FinishBatch();
  }
  EXPECT_TRUE(machine().status().backing_consistent);
}

TEST_F(OrdersTest, AfterACrashNothingIsKnownOfAGroup) {
  for (const bool strict : {false, true}) {
    StartIn(WritebackOrder::kGrouped);
    WriteEpochs(3);
    ASSERT_TRUE(machine().RunIdle());
    disk().Complete(3);
    if (strict) {
      ASSERT_THAT(SetOrder(WritebackOrder::kStrict), IsOk());
      EXPECT_TRUE(machine().core().record().mixed_epochs);
    }
    machine().Kill();
    ASSERT_THAT(machine().Start(), IsOk());
    EXPECT_FALSE(machine().status().backing_consistent);
    disk().set_automatic(true);
    ASSERT_THAT(machine().Drain(), IsOk());
    ASSERT_TRUE(machine().RunIdle());
    EXPECT_TRUE(machine().status().backing_consistent);
    EXPECT_FALSE(machine().core().record().mixed_epochs);
    machine().Kill();
    ASSERT_THAT(machine().Start(), IsOk());
    ASSERT_TRUE(machine().RunIdle());
    EXPECT_TRUE(machine().status().backing_consistent);
  }
}

}  // namespace
}  // namespace pcachefs
