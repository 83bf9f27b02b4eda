// Proves what each cache mode does with reads, writes and flushes, and that
// nothing stale is ever served where writes go around the cache, whatever the
// order of events.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/cached_image.h"
#include "core/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/modes_fixture.h"
#include "test/core/scripted_disk.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Operation = ScriptedDisk::Operation;

constexpr uint64_t kBlock = kBlockSize;

class ModesTest : public ModesFixture {};

TEST_F(ModesTest, WritethroughWritesToBothAndHits) {
  StartIn(CacheMode::kWritethrough);

  ASSERT_THAT(machine().Write(0, Block('w')), IsOk());

  EXPECT_THAT(disk().history(), ElementsAre("write 0+4096"));
  EXPECT_EQ(disk().Content(0, kBlock), Block('w'));
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('w')));
  EXPECT_THAT(disk().history(), ElementsAre("write 0+4096"));
  EXPECT_EQ(machine().status().dirty_bytes, 0u);
  EXPECT_EQ(machine().status().counters.read_hits, 1u);
}

TEST_F(ModesTest, WritearoundFillsOnlyWhatIsRead) {
  StartIn(CacheMode::kWritearound);

  ASSERT_THAT(machine().Write(0, Block('w')), IsOk());
  EXPECT_EQ(machine().status().cached_bytes, 0u);
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('w')));
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('w')));

  EXPECT_THAT(disk().history(), ElementsAre("write 0+4096", "read 0+4096"));
}

TEST_F(ModesTest, WriteonlyKeepsWritesAndFillsNothing) {
  StartIn(CacheMode::kWriteonly);

  ASSERT_TRUE(machine().StartWrite(0, Block('w'))->done);
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('w')));
  EXPECT_THAT(disk().history(), IsEmpty());
  EXPECT_EQ(machine().status().dirty_bytes, kBlock);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(machine().Read(kBlock, kBlock), IsOkAndHolds(Block('d')));
  }

  EXPECT_THAT(disk().history(), ElementsAre("read 4096+4096",
                                            "read 4096+4096"));
  EXPECT_EQ(machine().status().counters.fills, 0u);
}

TEST_F(ModesTest, PassthroughUsesTheBackingDeviceOnly) {
  StartCached(CacheMode::kPassthrough);

  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('o')));
  EXPECT_THAT(machine().Read(kBlock, kBlock), IsOkAndHolds(Block('d')));
  ASSERT_THAT(machine().Write(kBlock, Block('w')), IsOk());
  EXPECT_THAT(machine().Read(kBlock, kBlock), IsOkAndHolds(Block('w')));

  EXPECT_THAT(disk().history(),
              ElementsAre("read 0+4096", "read 4096+4096", "write 4096+4096",
                          "read 4096+4096"));
  EXPECT_EQ(machine().status().counters.fills, 0u);
}

TEST_F(ModesTest, DiscardAndZeroGoAroundToo) {
  for (const CacheMode mode : kAroundModes) {
    StartCached(mode);
    ASSERT_THAT(machine().Discard(0, 2 * kBlock), IsOk());
    ASSERT_THAT(machine().Zero(3 * kBlock, kBlock), IsOk());
    EXPECT_THAT(disk().history(),
                ElementsAre("discard 0+8192", "zero 12288+4096"));
    EXPECT_THAT(machine().Read(0, 2 * kBlock),
                IsOkAndHolds(std::string(2 * kBlock, '\0')));

    ASSERT_THAT(machine().Discard(5 * kBlock + 7, 600), IsOk());
    std::string want = Block('d');
    want.replace(7, 600, 600, '\0');
    EXPECT_THAT(machine().Read(5 * kBlock, kBlock), IsOkAndHolds(want));
    EXPECT_EQ(disk().Content(5 * kBlock, kBlock), want);
  }
}

TEST_F(ModesTest, UnalignedWritesKeepTheBytesAroundThem) {
  for (const CacheMode mode : kAroundModes) {
    StartCached(mode);
    ASSERT_THAT(machine().Write(100, std::string(5000, 'u')), IsOk());

    std::string want = Block('o') + Block('d');
    want.replace(100, 5000, 5000, 'u');
    EXPECT_THAT(machine().Read(0, 2 * kBlock), IsOkAndHolds(want));
    EXPECT_EQ(disk().Content(0, 2 * kBlock), want);
  }
}

TEST_F(ModesTest, WhatTheCacheHoldsIsDurablyForgottenFirst) {
  for (const CacheMode mode : kAroundModes) {
    StartCached(mode);
    const SequenceNumber durable = machine().core().log().durable();

    const Pending write = machine().StartWrite(512, std::string(512, 'n'));

    EXPECT_FALSE(write->done);
    EXPECT_THAT(disk().history(), IsEmpty());
    EXPECT_EQ(machine().PlaceOf(512), 0u);
    EXPECT_NE(machine().PlaceOf(0), 0u);  // only what is written
    ASSERT_TRUE(machine().core().barrier().Step());
    EXPECT_GT(machine().core().log().durable(), durable);
    EXPECT_THAT(disk().history(), ElementsAre("write 512+512"));
    EXPECT_TRUE(write->done);
  }
}

TEST_F(ModesTest, NothingCachedCostsNoKeyAndNoBarrier) {
  StartIn(CacheMode::kWritearound);
  const LogPosition head = key_head();
  const uint64_t persists = machine().core().barrier().persist_count();

  EXPECT_TRUE(machine().StartWrite(kBlock, Block('w'))->done);
  EXPECT_TRUE(machine().StartDiscard(3 * kBlock, kBlock)->done);

  EXPECT_EQ(key_head(), head);
  EXPECT_EQ(machine().core().barrier().persist_count(), persists);
}

TEST_F(ModesTest, AForgetThatIsNotDurableHoldsUpTheNextWriteToo) {
  StartCached(CacheMode::kWritearound);
  const Pending first = machine().StartWrite(0, Block('1'));
  const Pending other = machine().StartWrite(0, Block('2'));
  const Pending beside = machine().StartWrite(kBlock, Block('3'));

  EXPECT_THAT(disk().history(), IsEmpty());
  EXPECT_FALSE(first->done || other->done || beside->done);
  ASSERT_THAT(machine().Await(other), IsOk());
  EXPECT_EQ(disk().Content(0, kBlock), Block('2'));
}

// Reclaim and bad checksums take pieces out of the index that the log still has.
TEST_F(ModesTest, WhatOnlyTheIndexForgotIsForgottenInTheLog) {
  StartCached(CacheMode::kWritearound);
  machine().Corrupt(machine().PlaceOf(0));
  ASSERT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('o')));
  ASSERT_THAT(machine().Write(kBlock, Block('x')), IsOk());
  ASSERT_THAT(machine().Discard(0, kBlock), IsOk());
  const LogPosition head = key_head();

  // The log still tells of the bad piece; nobody knows of which others.
  ASSERT_THAT(machine().Write(0, Block('n')), IsOk());

  EXPECT_GT(key_head().sequence, head.sequence);
}

TEST_F(ModesTest, OverlappingWritesGoOneAfterTheOther) {
  StartIn(CacheMode::kWritethrough);
  disk().set_automatic(false);
  const Pending first = machine().StartWrite(0, Block('1') + Block('1'));
  const Pending second = machine().StartWrite(kBlock, Block('2') + Block('2'));
  const Pending third = machine().StartWrite(2 * kBlock, Block('3'));
  const Pending apart = machine().StartWrite(8 * kBlock, Block('4'));

  EXPECT_THAT(disk().pending(), ElementsAre("write 0+8192",
                                            "write 32768+4096"));
  disk().Complete();
  EXPECT_TRUE(first->done);
  EXPECT_FALSE(apart->done || second->done || third->done);
  ASSERT_TRUE(machine().core().barrier().Step());  // the first was cached
  EXPECT_THAT(disk().pending(), ElementsAre("write 32768+4096",
                                            "write 4096+8192"));
  disk().set_automatic(true);
  disk().CompleteAll();
  ASSERT_THAT(machine().Await(third), IsOk());

  const std::string want = Block('1') + Block('2') + Block('3');
  EXPECT_EQ(disk().Content(0, 3 * kBlock), want);
  EXPECT_THAT(machine().Read(0, 3 * kBlock), IsOkAndHolds(want));
  EXPECT_TRUE(second->done);
}

TEST_F(ModesTest, AReadUnderWayFillsNothingThatIsOverwritten) {
  for (const CacheMode mode : kAroundModes) {
    StartIn(mode);
    disk().set_automatic(false);
    // One begins before the write, one while it is under way.
    const Pending before = machine().StartRead(0, kBlock);
    const Pending write = machine().StartWrite(0, Block('n'));
    const Pending during = machine().StartRead(0, kBlock);
    ASSERT_THAT(disk().pending(),
                ElementsAre("read 0+4096", "write 0+4096", "read 0+4096"));
    disk().Complete(2);
    disk().Complete(0);
    EXPECT_TRUE(before->done && during->done);
    EXPECT_EQ(machine().status().counters.fills, 0u);
    disk().Complete();
    disk().set_automatic(true);
    ASSERT_THAT(machine().Await(write), IsOk());

    EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('n')));
  }
}

TEST_F(ModesTest, AnEdgeReadWhileItsSectorChangesIsReadAgain) {
  StartIn(CacheMode::kWritearound);
  disk().set_automatic(false);
  const Pending write = machine().StartWrite(0, std::string(512, 'n'));
  const Pending unaligned = machine().StartWrite(10, "unaligned");
  ASSERT_THAT(disk().pending(), ElementsAre("write 0+512", "read 0+512"));
  disk().Complete(1);  // the old bytes
  disk().CompleteAll();
  disk().set_automatic(true);
  ASSERT_THAT(machine().Await(unaligned), IsOk());
  ASSERT_THAT(machine().Await(write), IsOk());

  std::string want(512, 'n');
  want.replace(10, 9, "unaligned");
  EXPECT_EQ(disk().Content(0, 512), want);
}

TEST_F(ModesTest, BytesOfTheCallerAreCopiedIfHeWants) {
  StartCached(CacheMode::kWritethrough);
  std::string bytes = Block('x');
  bool done = false;
  machine().image().Write({ImageOffset(0), kBlock},
                          std::as_bytes(std::span(bytes)),
                          CachedImage::Payload::kCopyIfWaiting,
                          [&](absl::Status) { done = true; });
  bytes = Block('!');
  ASSERT_THAT(machine().Flush(), IsOk());

  EXPECT_TRUE(done);
  EXPECT_EQ(disk().Content(0, kBlock), Block('x'));
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('x')));
}

TEST_F(ModesTest, AFailedWriteIsTheWritersError) {
  for (const CacheMode mode : kAroundModes) {
    StartCached(mode);
    for (const absl::Status& why :
         {absl::UnavailableError("gone"), absl::ResourceExhaustedError("full"),
          absl::CancelledError("odd"), absl::AbortedError("odd")}) {
      disk().Fail(Operation::kWrite, why);
      if (absl::IsCancelled(why) || absl::IsAborted(why)) continue;
      EXPECT_THAT(machine().Write(0, Block('n')), StatusIs(why.code()));
      EXPECT_THAT(machine().Write(1, "n"), StatusIs(why.code()));
    }
    disk().Fail(Operation::kWrite, absl::OkStatus());

    EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('o')));
    EXPECT_THAT(machine().Write(0, Block('n')), IsOk());
    EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('n')));
  }
}

TEST_F(ModesTest, FlushFlushesTheBackingDevice) {
  for (const CacheMode mode : kAroundModes) {
    StartIn(mode);
    ASSERT_THAT(machine().Write(0, Block('w')), IsOk());
    disk().ClearHistory();
    disk().set_automatic(false);
    const Pending one = machine().StartFlush();
    const Pending two = machine().StartFlush();
    const Pending three = machine().StartFlush();
    EXPECT_THAT(disk().pending(), ElementsAre("flush"));
    disk().Complete();
    EXPECT_TRUE(one->done);
    EXPECT_FALSE(two->done || three->done);
    EXPECT_THAT(disk().pending(), ElementsAre("flush"));
    disk().Complete(0, absl::UnavailableError("no"));

    for (const Pending& failed : {two, three}) {
      EXPECT_TRUE(failed->done);
      EXPECT_THAT(failed->status, StatusIs(absl::StatusCode::kUnavailable));
    }
    EXPECT_THAT(disk().pending(), IsEmpty());
  }
}

TEST_F(ModesTest, FlushTellsOfAFailureThatNobodyHeardOf) {
  StartIn(CacheMode::kWritethrough);
  disk().Fail(Operation::kFlush, absl::UnavailableError("no"));
  ASSERT_THAT(machine().Write(0, Block('w')), IsOk());
  Rest();
  EXPECT_THAT(disk().history(), Contains("flush"));
  EXPECT_EQ(machine().status().state, HealthState::kDegraded);
  disk().Fail(Operation::kFlush, absl::OkStatus());
  Rest();
  EXPECT_EQ(machine().status().state, HealthState::kRunning);

  EXPECT_THAT(machine().Flush(), StatusIs(absl::StatusCode::kUnavailable,
                                          HasSubstr("earlier flush")));
  EXPECT_THAT(machine().Flush(), IsOk());
}

TEST_F(ModesTest, WritesInFlightAreAnsweredWhenTheDaemonEnds) {
  for (const CacheMode mode : kAroundModes) {
    StartCached(mode);
    disk().set_automatic(false);
    std::vector<Pending> writes;
    for (uint64_t i = 0; i < 3; ++i) {
      writes.push_back(machine().StartWrite(0, Block('1')));
      writes.push_back(machine().StartWrite(i * kBlock + 1, "2"));
      writes.push_back(machine().StartFlush());
    }
    machine().core().barrier().Step();
    machine().Kill();
    for (const Pending& write : writes) EXPECT_TRUE(write->done);
  }
}

TEST_F(ModesTest, ACacheDeviceThatFailedTakesNoWritesInAnyMode) {
  for (const CacheMode mode : kAroundModes) {
    StartCached(mode);
    const Pending write = machine().StartWrite(0, Block('n'));
    machine().core().barrier().Poison(absl::UnavailableError("broken"));
    EXPECT_THAT(machine().Await(write),
                StatusIs(absl::StatusCode::kUnavailable));
    EXPECT_THAT(machine().Write(kBlock, Block('n')), Not(IsOk()));
    EXPECT_THAT(disk().history(), IsEmpty());
    EXPECT_THAT(machine().Read(kBlock, kBlock), IsOkAndHolds(Block('d')));
  }
}

}  // namespace
}  // namespace pcachefs
