// Proves what each cache mode does with reads, writes and flushes, that nothing
// stale is ever served where writes go around the cache, whatever the order of
// events and wherever power goes, and that modes change under load.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/cached_image.h"
#include "core/image_space.h"
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

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Operation = ScriptedDisk::Operation;

constexpr uint64_t kBlock = kBlockSize;
constexpr uint64_t kSeeds = 20;
constexpr CacheMode kAroundModes[] = {CacheMode::kWritethrough,
                                      CacheMode::kWritearound,
                                      CacheMode::kPassthrough};

std::string Block(char letter) { return std::string(kBlock, letter); }

class ModesTest : public testing::Test {
 protected:
  void StartIn(CacheMode mode, CoreMachine::Options options = {}) {
    options.image.mode = mode;
    machine_ = std::make_unique<CoreMachine>(options);
    machine_->disk().Fill(0, std::string(machine_->disk().size(), 'd'));
    ASSERT_THAT(machine_->Start(), IsOk());
    ASSERT_TRUE(machine_->RunIdle());
    disk().ClearHistory();
  }
  // A block of clean data in the cache, written in mode writeback; then `mode`.
  void StartCached(CacheMode mode) {
    StartIn(CacheMode::kWriteback);
    ASSERT_THAT(machine().Write(0, Block('o')), IsOk());
    ASSERT_THAT(machine().Drain(), IsOk());
    ASSERT_THAT(machine().SetMode(mode), IsOk());
    disk().ClearHistory();
  }
  // Background work while an hour passes by.
  void Rest() {
    for (int i = 0; i < 10; ++i) {
      machine().clock().Advance(absl::Seconds(360));
      ASSERT_TRUE(machine().RunIdle());
    }
  }

  CoreMachine& machine() { return *machine_; }
  ScriptedDisk& disk() { return machine_->disk(); }
  LogPosition key_head() { return machine().core().log().head(); }

 private:
  std::unique_ptr<CoreMachine> machine_;
};

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

TEST_F(ModesTest, APowerCutBringsNothingStaleBack) {
  for (const CacheMode mode : kAroundModes) {
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      StartCached(mode);
      ASSERT_THAT(machine().Write(0, Block('n')), IsOk());
      machine().CutPower(seed);
      ASSERT_THAT(machine().Start(), IsOk());
      EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('n')));
    }
  }
}

// The backing device may lose what the cache says until it was flushed.
TEST_F(ModesTest, FillsCountAfterAPowerCutOnlyOnceTheBackingDeviceFlushed) {
  for (const bool flushed : {false, true}) {
    for (const CacheMode mode :
         {CacheMode::kWritethrough, CacheMode::kWritearound}) {
      for (uint64_t seed = 0; seed < kSeeds; ++seed) {
        StartIn(mode);
        ASSERT_THAT(machine().Write(0, Block('n')), IsOk());
        ASSERT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('n')));
        if (flushed) {
          Rest();
          EXPECT_THAT(disk().history(), Contains("flush"));
        } else {
          // Keys on the media, the write not.
          ASSERT_THAT(machine().core().barrier().Persist(), IsOk());
        }
        machine().CutPower(seed);
        if (!flushed) disk().Fill(0, Block('o'));
        disk().ClearHistory();
        ASSERT_THAT(machine().Start(), IsOk());
        EXPECT_THAT(machine().Read(0, kBlock),
                    IsOkAndHolds(Block(flushed ? 'n' : 'o')));
        EXPECT_EQ(machine().status().counters.read_hits, flushed ? 1u : 0u);
      }
    }
  }
}

// dirty_tail passes them in the next life, when the index knows nothing of them
// and a write around the cache leaves no key.
TEST_F(ModesTest, FillsThatAStartDroppedNeverComeBack) {
  StartIn(CacheMode::kWritethrough);
  ASSERT_THAT(machine().Write(0, Block('1')), IsOk());
  ASSERT_THAT(machine().core().barrier().Persist(), IsOk());
  machine().Kill();
  ASSERT_THAT(machine().Start(), IsOk());
  ASSERT_EQ(machine().PlaceOf(0), 0u);
  ASSERT_THAT(machine().SetMode(CacheMode::kWritearound), IsOk());
  ASSERT_THAT(machine().Write(0, Block('2')), IsOk());
  ASSERT_THAT(machine().Read(kBlock, kBlock), IsOk());
  const SequenceNumber last = machine().core().log().last();
  Rest();
  ASSERT_GT(machine().DurableTails().dirty_tail.sequence, last);
  machine().CutPower(1);
  ASSERT_THAT(machine().Start(), IsOk());

  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('2')));
  EXPECT_NE(machine().PlaceOf(kBlock), 0u);  // the new one counts

  // And over another start with an interval of its own.
  ASSERT_THAT(machine().Read(2 * kBlock, kBlock), IsOk());
  machine().Kill();
  ASSERT_THAT(machine().Start(), IsOk());
  ASSERT_THAT(machine().Write(2 * kBlock, Block('3')), IsOk());
  Rest();
  machine().CutPower(2);
  ASSERT_THAT(machine().Start(), IsOk());
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('2')));
  EXPECT_THAT(machine().Read(2 * kBlock, kBlock), IsOkAndHolds(Block('3')));
}

TEST_F(ModesTest, ACleanStopKeepsWhatWasFlushed) {
  StartIn(CacheMode::kWritethrough);
  ASSERT_THAT(machine().Write(0, Block('w')), IsOk());
  Rest();
  ASSERT_THAT(machine().Stop(), IsOk());
  ASSERT_THAT(machine().Start(), IsOk());

  disk().ClearHistory();
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('w')));
  EXPECT_THAT(disk().history(), Not(Contains("read 0+4096")));
}

TEST_F(ModesTest, BackingDeviceIsNotFlushedWithoutNeed) {
  StartIn(CacheMode::kWritearound);
  ASSERT_THAT(machine().Write(0, Block('w')), IsOk());
  Rest();
  EXPECT_THAT(disk().history(), ElementsAre("write 0+4096"));

  for (uint64_t i = 0; i < 20; ++i) {
    ASSERT_THAT(machine().Read(i * kBlock, kBlock), IsOk());
    ASSERT_THAT(machine().core().barrier().Persist(), IsOk());
    ASSERT_TRUE(machine().RunIdle());
  }
  Rest();
  uint64_t flushes = 0;
  for (const std::string& request : disk().history()) {
    flushes += request == "flush";
  }
  EXPECT_GE(flushes, 1u);
  EXPECT_LE(flushes, 2u);
}

TEST_F(ModesTest, AServiceAroundTheCacheBeginsWithAFlush) {
  StartIn(CacheMode::kWritethrough);
  machine().Kill();
  disk().set_automatic(false);
  ASSERT_THAT(machine().Start(), IsOk());
  const Pending write = machine().StartWrite(0, Block('w'));
  ASSERT_TRUE(machine().RunIdle());
  EXPECT_THAT(disk().pending(), ElementsAre("flush"));
  EXPECT_FALSE(write->done);
  disk().set_automatic(true);
  disk().Complete();

  ASSERT_THAT(machine().Await(write), IsOk());
}

TEST_F(ModesTest, LostDataStaysLostUntilItIsOverwritten) {
  for (const CacheMode mode : kAroundModes) {
    StartIn(CacheMode::kWriteback);
    disk().set_automatic(false);
    ASSERT_THAT(machine().Write(0, Block('l') + Block('l')), IsOk());
    machine().Corrupt(machine().PlaceOf(0));
    disk().set_automatic(true);
    ASSERT_THAT(machine().Drain(), IsOk());
    ASSERT_THAT(machine().SetMode(mode), IsOk());
    const auto lost = StatusIs(absl::StatusCode::kDataLoss);
    EXPECT_THAT(machine().Read(0, kBlock), lost);
    EXPECT_THAT(machine().Read(kBlock, kBlock), IsOkAndHolds(Block('l')));

    // A write that fails overwrites nothing.
    disk().Fail(Operation::kWrite, absl::UnavailableError("gone"));
    EXPECT_THAT(machine().Write(0, Block('n') + Block('n')),
                StatusIs(absl::StatusCode::kUnavailable));
    disk().Fail(Operation::kWrite, absl::OkStatus());
    EXPECT_THAT(machine().Read(0, kBlock), lost);
    disk().ClearHistory();
    ASSERT_THAT(machine().Write(0, Block('n') + Block('n')), IsOk());

    // Durable before the mark goes, or a power cut would bring back what the
    // device held before the loss.
    EXPECT_THAT(disk().history(), ElementsAre("write 0+8192", "flush"));
    EXPECT_THAT(machine().Read(0, 2 * kBlock),
                IsOkAndHolds(Block('n') + Block('n')));
    ASSERT_THAT(machine().Flush(), IsOk());
    machine().CutPower(1);
    ASSERT_THAT(machine().Start(), IsOk());
    EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('n')));
  }
}

TEST_F(ModesTest, ForgetsThatFillTheLogWaitForReclaim) {
  CoreMachine::Options options;
  options.image.cache_size = kMinShare * kMiB;
  StartIn(CacheMode::kWritethrough, options);
  // Each leaves a forget and a fill; one segment of log takes some 10000.
  for (uint64_t i = 0; i < 30'000; ++i) {
    ASSERT_THAT(machine().Write(i % 7 * kBlock, std::string(512, 'a' + i % 26)),
                IsOk())
        << i;
  }
  for (uint64_t at = 0; at < 7; ++at) {
    const uint64_t last = 29'999 - (29'999 - at) % 7;
    EXPECT_THAT(machine().Read(at * kBlock, 512),
                IsOkAndHolds(std::string(512, 'a' + last % 26)));
  }
}

TEST_F(ModesTest, SwitchFromWritebackDrainsFirst) {
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

TEST_F(ModesTest, WritesWaitWhileTheRestIsDrained) {
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

TEST_F(ModesTest, SwitchToWritebackFlushesTheBackingDeviceFirst) {
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

TEST_F(ModesTest, ModesOfOneSortSwitchAtOnce) {
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

TEST_F(ModesTest, AFailingBackingDeviceEndsTheSwitch) {
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
TEST_F(ModesTest, AFailingBackingDeviceOpensTheGateAgain) {
  StartIn(CacheMode::kWriteback);
  disk().set_automatic(false);
  const Pending change = machine().StartSetMode(CacheMode::kPassthrough);
  ASSERT_TRUE(machine().StartWrite(0, Block('1'))->done);
  while (!machine().core().gate().is_closed()) {
    if (machine().core().log().last_dirty() <
        machine().core().tails().dirty_tail().sequence) {
      ASSERT_TRUE(machine().StartWrite(0, Block('2'))->done);
    }
    disk().CompleteAll();
    machine().cache().Step();
  }
  const Pending waiting = machine().StartWrite(kBlock, Block('3'));
  disk().set_automatic(true);
  disk().Fail(Operation::kWrite, absl::UnavailableError("gone"));
  disk().Fail(Operation::kFlush, absl::UnavailableError("gone"));
  while (!disk().pending().empty()) disk().Complete();
  const absl::Status ended = machine().Await(change);
  if (ended.ok()) GTEST_SKIP() << "nothing was left to drain";

  EXPECT_THAT(machine().Await(waiting), IsOk());
  EXPECT_EQ(machine().status().mode, CacheMode::kWriteback);
  EXPECT_THAT(machine().Read(kBlock, kBlock), IsOkAndHolds(Block('3')));
}

TEST_F(ModesTest, OneSwitchAtATime) {
  StartIn(CacheMode::kWriteback);
  const Pending first = machine().StartSetMode(CacheMode::kWritearound);
  EXPECT_THAT(machine().SetMode(CacheMode::kWriteonly),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("a switch to writearound is going on")));
  EXPECT_THAT(machine().Await(first), IsOk());
}

TEST_F(ModesTest, AReadOnlyImageKeepsItsMode) {
  CoreMachine::Options options;
  options.image.read_only = true;
  StartIn(CacheMode::kWritethrough, options);
  EXPECT_THAT(machine().SetMode(CacheMode::kWriteback),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(machine().Flush(), IsOk());
}

TEST_F(ModesTest, ASwitchIsAnsweredWhenTheDaemonEnds) {
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
