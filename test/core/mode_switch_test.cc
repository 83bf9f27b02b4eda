// Proves that modes change under load, one switch at a time, and that a switch
// which fails leaves the image as it was.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/records.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/modes_fixture.h"
#include "test/core/scripted_disk.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Operation = ScriptedDisk::Operation;

constexpr uint64_t kBlock = kBlockSize;

class ModeSwitchTest : public ModesFixture {};

TEST_F(ModeSwitchTest, SwitchFromWritebackDrainsFirst) {
  for (const CacheMode mode : kAroundModes) {
    StartIn(CacheMode::kWriteback);
    ASSERT_TRUE(machine().StartWrite(0, Block('1'))->done);
    disk().set_automatic(false);
    const Pending change = machine().StartSetMode(mode);
    ASSERT_TRUE(machine().RunIdle());

    // Writes go on; the mode is what counts.
    EXPECT_TRUE(machine().StartWrite(0, Block('2'))->done);
    EXPECT_EQ(machine().status().mode, CacheMode::kWriteback);
    EXPECT_EQ(machine().status().next_mode, mode);
    disk().set_automatic(true);
    disk().CompleteAll();
    ASSERT_THAT(machine().Await(change), IsOk());

    EXPECT_EQ(machine().status().mode, mode);
    EXPECT_EQ(machine().status().next_mode, mode);
    EXPECT_EQ(machine().status().dirty_bytes, 0u);
    EXPECT_EQ(disk().Content(0, kBlock), Block('2'));
    machine().CutPower(3);
    ASSERT_THAT(machine().Start(), IsOk());
    EXPECT_EQ(machine().status().mode, mode);
  }
}

TEST_F(ModeSwitchTest, WritesWaitWhileTheRestIsDrained) {
  StartIn(CacheMode::kWriteback);
  disk().set_automatic(false);
  const Pending change = machine().StartSetMode(CacheMode::kWritearound);
  const Pending first = machine().StartWrite(0, Block('1'));
  while (!machine().core().gate().is_closed()) {
    ASSERT_FALSE(change->done);
    disk().CompleteAll();
    machine().cache().Step();
  }
  ASSERT_TRUE(first->done);
  const Pending aligned = machine().StartWrite(0, Block('2'));
  const Pending unaligned = machine().StartWrite(kBlock + 1, "3");
  const Pending zero = machine().StartZero(2 * kBlock, kBlock);
  const Pending flush = machine().StartFlush();
  const Pending read = machine().StartRead(0, kBlock);
  EXPECT_FALSE(aligned->done || unaligned->done || zero->done);
  EXPECT_TRUE(read->done);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(machine().RunIdle());
  EXPECT_FALSE(aligned->done || unaligned->done || zero->done);

  disk().CompleteAll();
  disk().set_automatic(true);
  for (const Pending& request : {change, aligned, unaligned, zero, flush}) {
    EXPECT_THAT(machine().Await(request), IsOk());
  }
  EXPECT_EQ(disk().Content(0, kBlock), Block('2'));
  EXPECT_EQ(disk().Content(kBlock, 3), "d3d");
  EXPECT_EQ(disk().Content(2 * kBlock, kBlock), Block('\0'));
}

TEST_F(ModeSwitchTest, SwitchToWritebackFlushesTheBackingDeviceFirst) {
  for (const CacheMode mode : kAroundModes) {
    StartIn(mode);
    disk().set_automatic(false);
    const Pending write = machine().StartWrite(0, Block('1'));
    const Pending change = machine().StartSetMode(CacheMode::kWriteback);
    ASSERT_TRUE(machine().RunIdle());
    // The write in flight ends first, others wait.
    EXPECT_THAT(disk().pending(), ElementsAre("write 0+4096"));
    const Pending later = machine().StartWrite(0, Block('2'));
    disk().Complete();
    EXPECT_TRUE(write->done);
    ASSERT_TRUE(machine().RunIdle());
    EXPECT_THAT(disk().pending(), ElementsAre("flush"));
    EXPECT_EQ(machine().status().mode, mode);
    EXPECT_FALSE(later->done || change->done);
    disk().Complete();
    while (!later->done) ASSERT_TRUE(machine().cache().Step());

    EXPECT_TRUE(change->done);
    EXPECT_EQ(machine().status().dirty_bytes, kBlock);
    EXPECT_EQ(disk().Content(0, kBlock), Block('1'));
    EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('2')));
  }
}

TEST_F(ModeSwitchTest, ModesOfOneSortSwitchAtOnce) {
  StartIn(CacheMode::kWriteback);
  disk().set_automatic(false);
  ASSERT_TRUE(machine().StartWrite(0, Block('w'))->done);
  ASSERT_THAT(machine().SetMode(CacheMode::kWriteonly), IsOk());
  EXPECT_EQ(machine().status().dirty_bytes, kBlock);
  ASSERT_THAT(machine().SetMode(CacheMode::kWriteonly), IsOk());
  disk().set_automatic(true);
  disk().CompleteAll();
  ASSERT_THAT(machine().SetMode(CacheMode::kWritearound), IsOk());
  disk().set_automatic(false);

  ASSERT_THAT(machine().SetMode(CacheMode::kPassthrough), IsOk());
  ASSERT_THAT(machine().SetMode(CacheMode::kWritethrough), IsOk());
  EXPECT_THAT(disk().pending(), IsEmpty());
}

TEST_F(ModeSwitchTest, AFailingBackingDeviceEndsTheSwitch) {
  StartIn(CacheMode::kWriteback);
  disk().Fail(Operation::kWrite, absl::UnavailableError("gone"));
  ASSERT_TRUE(machine().StartWrite(0, Block('w'))->done);
  EXPECT_THAT(machine().SetMode(CacheMode::kWritearound),
              StatusIs(absl::StatusCode::kUnavailable));

  EXPECT_EQ(machine().status().mode, CacheMode::kWriteback);
  EXPECT_TRUE(machine().StartWrite(0, Block('x'))->done);
  EXPECT_EQ(machine().status().next_mode, CacheMode::kWriteback);
  disk().Fail(Operation::kWrite, absl::OkStatus());
  ASSERT_THAT(machine().SetMode(CacheMode::kWritearound), IsOk());

  disk().Fail(Operation::kFlush, absl::UnavailableError("gone"));
  EXPECT_THAT(machine().SetMode(CacheMode::kWriteback),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(machine().status().mode, CacheMode::kWritearound);
  disk().Fail(Operation::kFlush, absl::OkStatus());
  EXPECT_THAT(machine().Write(0, Block('y')), IsOk());
  EXPECT_EQ(disk().Content(0, kBlock), Block('y'));
  EXPECT_THAT(machine().Flush(), Not(IsOk()));  // tells of the failed one
  EXPECT_THAT(machine().SetMode(CacheMode::kWriteback), IsOk());
}

// The drain of the rest fails when the gate is closed already.
TEST_F(ModeSwitchTest, AFailingBackingDeviceOpensTheGateAgain) {
  StartIn(CacheMode::kWriteback);
  disk().set_automatic(false);
  const Pending change = machine().StartSetMode(CacheMode::kPassthrough);
  // Something is always left to drain.
  while (!machine().core().gate().is_closed()) {
    disk().CompleteAll();
    ASSERT_TRUE(machine().StartWrite(0, Block('1'))->done);
    machine().cache().Step();
  }
  const Pending waiting = machine().StartWrite(kBlock, Block('3'));
  disk().set_automatic(true);
  disk().Fail(Operation::kWrite, absl::UnavailableError("gone"));
  disk().Fail(Operation::kFlush, absl::UnavailableError("gone"));
  while (!disk().pending().empty()) disk().Complete();
  EXPECT_THAT(machine().Await(change),
              StatusIs(absl::StatusCode::kUnavailable));

  EXPECT_THAT(machine().Await(waiting), IsOk());
  EXPECT_EQ(machine().status().mode, CacheMode::kWriteback);
  EXPECT_THAT(machine().Read(kBlock, kBlock), IsOkAndHolds(Block('3')));
}

TEST_F(ModeSwitchTest, OneSwitchAtATime) {
  StartIn(CacheMode::kWriteback);
  const Pending first = machine().StartSetMode(CacheMode::kWritearound);
  EXPECT_THAT(machine().SetMode(CacheMode::kWriteonly),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("a switch to writearound is going on")));
  EXPECT_THAT(machine().Await(first), IsOk());
}

TEST_F(ModeSwitchTest, AReadOnlyImageKeepsItsMode) {
  CoreMachine::Options options;
  options.image.read_only = true;
  StartIn(CacheMode::kWritethrough, options);
  EXPECT_THAT(machine().SetMode(CacheMode::kWriteback),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(machine().Flush(), IsOk());
}

TEST_F(ModeSwitchTest, ASwitchIsAnsweredWhenTheDaemonEnds) {
  StartIn(CacheMode::kWriteback);
  disk().set_automatic(false);
  ASSERT_TRUE(machine().StartWrite(0, Block('w'))->done);
  Pending change = machine().StartSetMode(CacheMode::kWritethrough);
  ASSERT_TRUE(machine().RunIdle());
  machine().Kill();
  EXPECT_TRUE(change->done);
  EXPECT_THAT(change->status, StatusIs(absl::StatusCode::kUnavailable));

  ASSERT_THAT(machine().Start(), IsOk());
  change = machine().StartSetMode(CacheMode::kWritethrough);
  ASSERT_TRUE(machine().RunIdle());
  ASSERT_THAT(machine().Stop(), IsOk());
  EXPECT_TRUE(change->done);
  EXPECT_THAT(change->status, Not(IsOk()));
  disk().CompleteAll();
  disk().set_automatic(true);
  ASSERT_THAT(machine().Start(), IsOk());
  EXPECT_EQ(machine().status().mode, CacheMode::kWriteback);
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('w')));
}

}  // namespace
}  // namespace pcachefs
