// Proves that where writes go around the cache nothing stale comes back, wherever
// power goes and whatever the log keeps.

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

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;
using Operation = ScriptedDisk::Operation;

constexpr uint64_t kBlock = kBlockSize;
constexpr uint64_t kSeeds = 20;

class ModesRecoveryTest : public ModesFixture {};

TEST_F(ModesRecoveryTest, APowerCutBringsNothingStaleBack) {
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
TEST_F(ModesRecoveryTest, FillsCountAfterAPowerCutOnlyOnceTheBackingDeviceFlushed) {
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
TEST_F(ModesRecoveryTest, FillsThatAStartDroppedNeverComeBack) {
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

TEST_F(ModesRecoveryTest, ACleanStopKeepsWhatWasFlushed) {
  StartIn(CacheMode::kWritethrough);
  ASSERT_THAT(machine().Write(0, Block('w')), IsOk());
  Rest();
  ASSERT_THAT(machine().Stop(), IsOk());
  ASSERT_THAT(machine().Start(), IsOk());

  disk().ClearHistory();
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Block('w')));
  EXPECT_THAT(disk().history(), Not(Contains("read 0+4096")));
}

TEST_F(ModesRecoveryTest, BackingDeviceIsNotFlushedWithoutNeed) {
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

TEST_F(ModesRecoveryTest, AServiceAroundTheCacheBeginsWithAFlush) {
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

TEST_F(ModesRecoveryTest, LostDataStaysLostUntilItIsOverwritten) {
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

TEST_F(ModesRecoveryTest, ForgetsThatFillTheLogWaitForReclaim) {
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

}  // namespace
}  // namespace pcachefs
