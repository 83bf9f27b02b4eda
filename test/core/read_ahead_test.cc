// Proves what sequential readers get: their next bytes before they ask, one
// backing read for each, no answer later for it; and that long streams pass a
// full cache by without pushing anything out of it.

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/image_settings.h"
#include "core/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/scripted_disk.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kRead = 64 * kKiB;

class ReadAheadTest : public testing::Test {
 protected:
  void StartWith(uint64_t read_ahead, uint64_t segments = 16,
                 int gc_percent = 90) {
    CoreMachine::Options options;
    options.image.gc_percent = gc_percent;
    options.image.cache_size = segments * kMiB;
    options.cache_options.read_ahead = read_ahead;
    machine_ = std::make_unique<CoreMachine>(options);
    for (uint64_t at = 0; at < machine_->disk().size(); at += kRead) {
      machine_->disk().Fill(at, std::string(kRead, Letter(at)));
    }
    ASSERT_THAT(machine_->Start(), IsOk());
  }
  static char Letter(uint64_t offset) { return 'a' + offset / kRead % 26; }
  void Read(uint64_t offset) {
    ASSERT_THAT(machine_->Read(offset, kRead),
                IsOkAndHolds(std::string(kRead, Letter(offset))));
  }
  ImageStatus::Counters counters() { return machine_->status().counters; }
  CoreMachine& machine() { return *machine_; }

 private:
  std::unique_ptr<CoreMachine> machine_;
};

TEST_F(ReadAheadTest, SequentialReaderFindsWhatComesNext) {
  StartWith(512 * kKiB);
  for (uint64_t i = 0; i < 3; ++i) Read(i * kRead);
  EXPECT_EQ(machine().disk().history().back(), "read 196608+131072");
  machine().disk().ClearHistory();

  Read(3 * kRead);
  Read(4 * kRead);

  EXPECT_THAT(machine().disk().history(), IsEmpty());
  EXPECT_EQ(counters().read_hits, 2u);
  EXPECT_EQ(counters().read_aheads, 1u);
  EXPECT_EQ(counters().read_ahead_bytes, 128 * kKiB);
  EXPECT_EQ(counters().read_ahead_used_bytes, 128 * kKiB);
}

TEST_F(ReadAheadTest, FirstUseOfWhatWasReadAheadIsNoHitForReclaim) {
  StartWith(512 * kKiB);
  for (uint64_t i = 0; i < 5; ++i) Read(i * kRead);
  ASSERT_EQ(counters().read_hits, 2u);

  ASSERT_THAT(machine().image().Change({.gc_percent = 0}), IsOk());
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(machine().RunIdle());
    machine().clock().Advance(absl::Seconds(2));
  }

  EXPECT_EQ(counters().second_lives, 0u);
  EXPECT_EQ(counters().read_ahead_wasted_bytes, 0u);
}

TEST_F(ReadAheadTest, NextMissWaitsForTheWindowInsteadOfReadingAgain) {
  StartWith(512 * kKiB);
  Read(0);
  Read(kRead);
  machine().disk().set_automatic(false);
  const Pending third = machine().StartRead(2 * kRead, kRead);
  const Pending fourth = machine().StartRead(3 * kRead, kRead);
  EXPECT_THAT(machine().disk().pending(),
              ElementsAre("read 131072+65536", "read 196608+131072"));

  machine().disk().Complete(0);
  EXPECT_TRUE(third->done) << "answered without the window";
  EXPECT_FALSE(fourth->done);
  machine().disk().Complete(0);

  EXPECT_TRUE(fourth->done);
  EXPECT_EQ(fourth->bytes, std::string(kRead, Letter(3 * kRead)));
  EXPECT_EQ(counters().shared_misses, 1u);
  EXPECT_EQ(counters().read_ahead_used_bytes, kRead);
}

TEST_F(ReadAheadTest, FailedWindowFailsNobody) {
  StartWith(512 * kKiB);
  Read(0);
  Read(kRead);
  machine().disk().set_automatic(false);
  const Pending third = machine().StartRead(2 * kRead, kRead);
  const Pending fourth = machine().StartRead(3 * kRead, kRead);
  machine().disk().Complete(0);

  machine().disk().Complete(0, absl::UnavailableError("a bad sector"));
  EXPECT_THAT(machine().disk().pending(), ElementsAre("read 196608+65536"));
  machine().disk().CompleteAll();

  EXPECT_THAT(fourth->status, IsOk());
  EXPECT_EQ(fourth->bytes, std::string(kRead, Letter(3 * kRead)));
}

TEST_F(ReadAheadTest, WhatIsThereIsNotReadAgain) {
  StartWith(512 * kKiB);
  ASSERT_THAT(machine().Write(3 * kRead, std::string(2 * kRead, 'w')), IsOk());
  machine().disk().ClearHistory();

  for (uint64_t i = 0; i < 3; ++i) Read(i * kRead);

  EXPECT_EQ(machine().disk().history().back(), "read 131072+65536");
  EXPECT_EQ(counters().read_aheads, 0u);
  EXPECT_EQ(machine().status().latencies.read_miss.count(), 3u);
}

TEST_F(ReadAheadTest, WriteIntoTheWindowWins) {
  StartWith(512 * kKiB);
  Read(0);
  Read(kRead);
  machine().disk().set_automatic(false);
  const Pending third = machine().StartRead(2 * kRead, kRead);
  ASSERT_TRUE(machine().StartWrite(3 * kRead, std::string(kRead, 'N'))->done);
  machine().disk().CompleteAll();
  machine().disk().set_automatic(true);

  EXPECT_THAT(machine().Read(3 * kRead, kRead),
              IsOkAndHolds(std::string(kRead, 'N')));
}

TEST_F(ReadAheadTest, WhatNobodyReadIsCountedAsWasted) {
  StartWith(512 * kKiB);
  for (uint64_t i = 0; i < 3; ++i) Read(i * kRead);

  ASSERT_THAT(machine().image().Change({.gc_percent = 0}), IsOk());
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(machine().RunIdle());
    machine().clock().Advance(absl::Seconds(2));
  }

  EXPECT_EQ(counters().read_ahead_used_bytes, 0u);
  EXPECT_EQ(counters().read_ahead_wasted_bytes, 128 * kKiB);
}

TEST_F(ReadAheadTest, NothingIsReadAheadWhereSpaceIsShort) {
  StartWith(512 * kKiB, /*segments=*/6);
  ASSERT_THAT(machine().Write(4 * kMiB, std::string(2 * kMiB, 'w')), IsOk());
  ASSERT_LT(machine().core().space().payload_left(), 2u);

  for (uint64_t i = 0; i < 5; ++i) Read(i * kRead);

  EXPECT_EQ(counters().read_aheads, 0u);
}

TEST_F(ReadAheadTest, LongStreamPassesAFullCacheBy) {
  StartWith(/*read_ahead=*/0, /*segments=*/16, /*gc_percent=*/20);
  ASSERT_THAT(machine().image().Change({.sequential_cutoff = 4 * kRead}),
              IsOk());
  // Its own bytes, twice, are what a cache is for.
  ASSERT_THAT(machine().Write(7 * kMiB, std::string(kMiB, 'w')), IsOk());
  ASSERT_THAT(machine().Write(6 * kMiB, std::string(kMiB, 'w')), IsOk());
  ASSERT_THAT(machine().Drain(), IsOk());

  for (uint64_t i = 0; i < 64; ++i) Read(i * kRead);

  EXPECT_EQ(counters().bypasses, 60u);
  EXPECT_EQ(counters().bypass_bytes, 60 * kRead);
  EXPECT_EQ(counters().fill_bytes, 4 * kRead);
  EXPECT_NE(machine().PlaceOf(3 * kRead), 0u);
  EXPECT_EQ(machine().PlaceOf(5 * kRead), 0u);
  EXPECT_NE(machine().PlaceOf(7 * kMiB), 0u);
}

TEST_F(ReadAheadTest, CutoffLeavesACacheWithRoomAlone) {
  StartWith(/*read_ahead=*/0, /*segments=*/16, /*gc_percent=*/90);
  ASSERT_THAT(machine().image().Change({.sequential_cutoff = 4 * kRead}),
              IsOk());

  for (uint64_t i = 0; i < 64; ++i) Read(i * kRead);

  EXPECT_EQ(counters().bypasses, 0u);
  EXPECT_EQ(counters().fill_bytes, 64 * kRead);
}

TEST_F(ReadAheadTest, ReadersThatPassByStillShareOneBackingRead) {
  StartWith(/*read_ahead=*/0, /*segments=*/16, /*gc_percent=*/0);
  ASSERT_THAT(machine().image().Change({.sequential_cutoff = 1}), IsOk());
  machine().disk().set_automatic(false);
  const Pending one = machine().StartRead(0, kRead);
  const Pending two = machine().StartRead(0, kRead);
  EXPECT_THAT(machine().disk().pending(), ElementsAre("read 0+65536"));

  machine().disk().CompleteAll();

  EXPECT_EQ(two->bytes, std::string(kRead, Letter(0)));
  EXPECT_EQ(counters().fills, 0u);
  EXPECT_EQ(counters().bypasses, 2u);
}

TEST_F(ReadAheadTest, LatenciesAreCounted) {
  StartWith(/*read_ahead=*/0);
  Read(0);
  Read(0);
  ASSERT_THAT(machine().Write(0, std::string(4096, 'w')), IsOk());
  ASSERT_THAT(machine().Flush(), IsOk());
  machine().disk().set_automatic(false);
  const Pending slow = machine().StartRead(kMiB, kRead);
  machine().clock().Advance(absl::Milliseconds(100));
  machine().disk().CompleteAll();

  const ImageStatus::Latencies latencies = machine().status().latencies;

  EXPECT_EQ(latencies.read_hit.count(), 1u);
  EXPECT_EQ(latencies.read_miss.count(), 2u);
  EXPECT_EQ(latencies.backing_read.count(), 2u);
  EXPECT_EQ(latencies.write.count(), 1u);
  EXPECT_EQ(latencies.flush.count(), 1u);
  EXPECT_EQ(latencies.read_hit.Quantile(1), 1e-6);
  EXPECT_DOUBLE_EQ(latencies.read_miss.sum_seconds, 0.1);
  EXPECT_EQ(latencies.read_miss.Quantile(0.5), 1e-6);
  EXPECT_EQ(latencies.read_miss.Quantile(0.99), 0.131072);
}

}  // namespace
}  // namespace pcachefs
