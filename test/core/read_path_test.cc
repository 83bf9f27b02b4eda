// Proves what a reader gets, whatever else happens at the same time: every
// interleaving is driven by hand, requests to the disk end when the test says.

#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "core/cached_image.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/scripted_disk.h"
#include "test/fakes/fake_cache_device.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kBlock = kBlockSize;

std::string Blocks(char letter, uint64_t count = 1) {
  return std::string(count * kBlock, letter);
}

class ReadPathTest : public testing::Test {
 protected:
  void StartWith(const CoreMachine::Options& options) {
    machine_ = std::make_unique<CoreMachine>(options);
    machine_->disk().Fill(0, std::string(machine_->disk().size(), 'd'));
    ASSERT_THAT(machine_->Start(), IsOk());
    machine_->disk().ClearHistory();
  }
  void SetUp() override { StartWith({}); }

  CoreMachine& machine() { return *machine_; }
  ScriptedDisk& disk() { return machine_->disk(); }

 private:
  std::unique_ptr<CoreMachine> machine_;
};

TEST_F(ReadPathTest, MissIsReadOnceAndServedFromTheCacheThen) {
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Blocks('d')));
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Blocks('d')));

  EXPECT_THAT(disk().history(), ElementsAre("read 0+4096"));
  EXPECT_EQ(machine().status().counters.fills, 1u);
  EXPECT_EQ(machine().status().counters.read_hits, 1u);
}

TEST_F(ReadPathTest, ConcurrentMissesOfOneRangeShareOneBackingRead) {
  disk().set_automatic(false);

  const Pending first = machine().StartRead(0, kBlock);
  const Pending second = machine().StartRead(0, kBlock);
  const Pending within = machine().StartRead(512, 512);

  ASSERT_THAT(disk().pending(), ElementsAre("read 0+4096"));
  EXPECT_FALSE(first->done || second->done || within->done);
  disk().Complete();
  EXPECT_TRUE(first->done && second->done && within->done);
  EXPECT_EQ(first->bytes, Blocks('d'));
  EXPECT_EQ(second->bytes, Blocks('d'));
  EXPECT_EQ(within->bytes, std::string(512, 'd'));
  EXPECT_EQ(machine().status().counters.shared_misses, 2u);
}

TEST_F(ReadPathTest, OverlappingMissReadsOnlyWhatNobodyElseReads) {
  disk().set_automatic(false);
  const Pending first = machine().StartRead(kBlock, 2 * kBlock);

  const Pending around = machine().StartRead(0, 4 * kBlock);

  ASSERT_THAT(disk().pending(),
              ElementsAre("read 4096+8192", "read 0+4096", "read 12288+4096"));
  disk().Complete(2);
  disk().Complete(1);
  EXPECT_FALSE(around->done);
  disk().Complete(0);
  EXPECT_TRUE(first->done && around->done);
  EXPECT_EQ(around->bytes, Blocks('d', 4));
}

TEST_F(ReadPathTest, FailedMissFailsEveryoneWhoWaitedAndIsTriedAgain) {
  disk().set_automatic(false);
  const Pending first = machine().StartRead(0, kBlock);
  const Pending second = machine().StartRead(0, kBlock);

  disk().Complete(0, absl::UnavailableError("gone"));

  EXPECT_THAT(first->status, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(second->status, StatusIs(absl::StatusCode::kUnavailable));
  disk().set_automatic(true);
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Blocks('d')));
  EXPECT_EQ(machine().status().counters.backing_read_errors, 1u);
}

TEST_F(ReadPathTest, WriteDuringAMissBeatsItsFill) {
  disk().set_automatic(false);
  const Pending read = machine().StartRead(0, 3 * kBlock);

  const Pending write = machine().StartWrite(kBlock, Blocks('w'));
  ASSERT_TRUE(write->done);
  disk().Complete();

  EXPECT_TRUE(read->done);
  disk().set_automatic(true);
  EXPECT_THAT(machine().Read(0, 3 * kBlock),
              IsOkAndHolds(Blocks('d') + Blocks('w') + Blocks('d')));
}

TEST_F(ReadPathTest, ZeroDuringAMissBeatsItsFill) {
  disk().set_automatic(false);
  const Pending read = machine().StartRead(0, kBlock);

  ASSERT_THAT(machine().Zero(0, kBlock), IsOk());
  disk().Complete();

  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Blocks('\0')));
}

TEST_F(ReadPathTest, ReaderAfterTheWriteDoesNotWaitForTheOvertakenMiss) {
  disk().set_automatic(false);
  const Pending before = machine().StartRead(0, 2 * kBlock);
  ASSERT_TRUE(machine().StartWrite(0, Blocks('w'))->done);

  const Pending after = machine().StartRead(0, 2 * kBlock);

  ASSERT_THAT(disk().pending(), ElementsAre("read 0+8192", "read 4096+4096"));
  disk().Complete(1);
  ASSERT_TRUE(after->done);
  EXPECT_EQ(after->bytes, Blocks('w') + Blocks('d'));
  disk().Complete(0);
  EXPECT_TRUE(before->done);
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Blocks('w')));
}

TEST_F(ReadPathTest, WriteBetweenAnswerAndFillBeatsTheFill) {
  disk().set_automatic(false);
  std::string bytes(kBlock, '?');
  bool wrote = false;
  machine().image().Read({ImageOffset(0), kBlock},
                         std::as_writable_bytes(std::span(bytes)),
                         [&](absl::Status) {
                           wrote = machine().StartWrite(0, Blocks('w'))->done;
                         });

  disk().Complete();

  EXPECT_TRUE(wrote);
  EXPECT_EQ(bytes, Blocks('d'));
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Blocks('w')));
}

TEST_F(ReadPathTest, WriteThatWasWrittenBackDuringAMissIsNotUndone) {
  disk().set_automatic(false);
  const Pending read = machine().StartRead(0, kBlock);
  ASSERT_TRUE(machine().StartWrite(0, Blocks('w'))->done);
  const Pending drain = machine().StartDrain();
  while (disk().pending().size() < 2) ASSERT_TRUE(machine().cache().Step());
  disk().Complete(1);  // the write; then the flush
  while (disk().pending().size() < 2) ASSERT_TRUE(machine().cache().Step());
  disk().Complete(1);
  ASSERT_THAT(machine().Await(drain), IsOk());

  disk().Complete(0);

  EXPECT_TRUE(read->done);
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Blocks('w')));
}

TEST_F(ReadPathTest, PartialHitReadsOnlyTheGaps) {
  ASSERT_THAT(machine().Write(kBlock, Blocks('w')), IsOk());
  ASSERT_THAT(machine().Zero(2 * kBlock, 512), IsOk());

  EXPECT_THAT(machine().Read(0, 3 * kBlock),
              IsOkAndHolds(Blocks('d') + Blocks('w') + std::string(512, '\0') +
                           std::string(kBlock - 512, 'd')));

  EXPECT_THAT(disk().history(), ElementsAre("read 0+4096", "read 8704+3584"));
  EXPECT_EQ(machine().status().counters.read_partial_hits, 1u);
}

TEST_F(ReadPathTest, MissMayCrossStripes) {
  const uint64_t start = 4 * kMiB - kBlock;
  disk().Fill(start, Blocks('x') + Blocks('y'));

  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(machine().Read(start, 2 * kBlock),
                IsOkAndHolds(Blocks('x') + Blocks('y')));
  }

  EXPECT_THAT(disk().history(),
              ElementsAre("read 4190208+4096", "read 4194304+4096"));
}

TEST_F(ReadPathTest, AnyByteRangeCanBeRead) {
  disk().Fill(500, "0123456789abcdefghijklmnop");

  EXPECT_THAT(machine().Read(505, 10), IsOkAndHolds("56789abcde"));
  EXPECT_THAT(machine().Read(510, 4), IsOkAndHolds("abcd"));
  EXPECT_THAT(machine().Read(0, 0), IsOkAndHolds(""));
  EXPECT_THAT(machine().Read(8 * kMiB - 1, 1), IsOkAndHolds("d"));
  EXPECT_THAT(machine().Read(8 * kMiB - 1, 2),
              StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(machine().Read(~uint64_t{0}, 2),
              StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_F(ReadPathTest, BadCleanPayloadIsReadFromTheBackingDeviceAgain) {
  ASSERT_THAT(machine().Read(0, 2 * kBlock), IsOk());
  machine().Corrupt(machine().PlaceOf(kBlock) + 100);
  disk().ClearHistory();

  EXPECT_THAT(machine().Read(0, 2 * kBlock), IsOkAndHolds(Blocks('d', 2)));
  EXPECT_THAT(machine().Read(0, 2 * kBlock), IsOkAndHolds(Blocks('d', 2)));

  // The bad block and no other, once.
  EXPECT_THAT(disk().history(), ElementsAre("read 4096+4096"));
  EXPECT_EQ(machine().status().counters.checksum_errors, 1u);
}

TEST_F(ReadPathTest, UnreadableCleanPayloadIsReadFromTheBackingDeviceAgain) {
  ASSERT_THAT(machine().Read(0, kBlock), IsOk());
  machine().cache_device().FailRange(FakeCacheDevice::kRead,
                                     machine().PlaceOf(0), kBlock);

  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Blocks('d')));

  EXPECT_EQ(machine().status().counters.cache_errors, 1u);
}

TEST_F(ReadPathTest, UnreadableDirtyPayloadIsAnErrorAndAffectsNothingElse) {
  ASSERT_THAT(machine().Write(0, Blocks('w', 2)), IsOk());
  machine().cache_device().FailRange(FakeCacheDevice::kRead,
                                     machine().PlaceOf(0), kBlock);

  EXPECT_THAT(machine().Read(0, kBlock),
              StatusIs(absl::StatusCode::kUnavailable));

  EXPECT_THAT(machine().Read(kBlock, kBlock), IsOkAndHolds(Blocks('w')));
}

TEST_F(ReadPathTest, BadDirtyPayloadIsLostUntilOverwritten) {
  CoreMachine::Options options;
  options.image.gc_percent = 0;
  StartWith(options);
  ASSERT_THAT(machine().Write(0, Blocks('w', 3)), IsOk());
  machine().Corrupt(machine().PlaceOf(kBlock));
  const auto is_lost = StatusIs(absl::StatusCode::kDataLoss);

  EXPECT_THAT(machine().Read(0, 3 * kBlock), is_lost);

  // Written back is what is good, and only that.
  ASSERT_THAT(machine().Drain(), IsOk());
  EXPECT_EQ(disk().Content(0, 3 * kBlock),
            Blocks('w') + Blocks('d') + Blocks('w'));
  EXPECT_THAT(machine().Read(kBlock, 512), is_lost);
  EXPECT_THAT(machine().Read(2 * kBlock, kBlock), IsOkAndHolds(Blocks('w')));
  EXPECT_THAT(machine().status().state_reason, HasSubstr("4096 bytes"));

  // The key that says so is reclaimed: with gc_percent 0 all that is clean.
  const SequenceNumber mark = machine().core().log().last();
  for (int i = 0; machine().status().key_tail.sequence <= mark; ++i) {
    ASSERT_LT(i, 10);
    ASSERT_THAT(machine().Write(8 * kBlock, Blocks('o')), IsOk());
    ASSERT_THAT(machine().Drain(), IsOk());
  }
  EXPECT_THAT(machine().Read(kBlock, 512), is_lost);

  for (const bool clean : {true, false}) {
    clean ? (void)machine().Stop() : machine().Kill();
    ASSERT_THAT(machine().Start(), IsOk());
    EXPECT_THAT(machine().Read(kBlock, 512), is_lost);
  }

  ASSERT_THAT(machine().Write(kBlock, Blocks('n')), IsOk());
  EXPECT_THAT(machine().Read(0, 3 * kBlock),
              IsOkAndHolds(Blocks('w') + Blocks('n') + Blocks('w')));
}

TEST_F(ReadPathTest, HitThatTheMediaMustFetchIsAnsweredLater) {
  CoreMachine::Options options;
  options.cache.try_read_miss_percent = 100;
  StartWith(options);
  ASSERT_THAT(machine().Write(0, Blocks('w')), IsOk());

  const Pending read = machine().StartRead(512, 1024);

  EXPECT_FALSE(read->done);
  EXPECT_TRUE(machine().cache_device().Step());
  EXPECT_TRUE(read->done);
  EXPECT_EQ(read->bytes, std::string(1024, 'w'));
  EXPECT_THAT(disk().history(), IsEmpty());
}

TEST_F(ReadPathTest, BadPayloadFoundLateIsTreatedAlike) {
  CoreMachine::Options options;
  options.cache.try_read_miss_percent = 100;
  StartWith(options);
  ASSERT_THAT(machine().Read(0, kBlock), IsOk());
  ASSERT_THAT(machine().Write(kBlock, Blocks('w')), IsOk());
  machine().Corrupt(machine().PlaceOf(0));
  machine().Corrupt(machine().PlaceOf(kBlock));

  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Blocks('d')));
  EXPECT_THAT(machine().Read(kBlock, kBlock),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(ReadPathTest, BufferMayBeReusedAsSoonAsTheAnswerCame) {
  disk().Fill(0, Blocks('x'));
  std::string bytes(kBlock, '?');
  std::string got;
  machine().image().Read(
      {ImageOffset(0), kBlock}, std::as_writable_bytes(std::span(bytes)),
      [&](absl::Status status) {
        EXPECT_THAT(status, IsOk());
        got = bytes;
        std::memset(bytes.data(), '!', bytes.size());  // it is another's now
      },
      CachedImage::Buffer::kUntilAnswered);

  EXPECT_EQ(got, Blocks('x'));
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Blocks('x')));
  EXPECT_EQ(machine().status().counters.fills, 1u);
}

TEST_F(ReadPathTest, MapsExtentsOfCacheAndBackingDevice) {
  ASSERT_THAT(machine().Write(kBlock, Blocks('w')), IsOk());
  ASSERT_THAT(machine().Discard(3 * kBlock, kBlock), IsOk());
  const auto extent_at = [&](uint64_t offset) {
    const auto extent = machine().image().FindExtent(ImageOffset(offset));
    EXPECT_THAT(extent, IsOk());
    return std::make_pair(extent->length, extent->is_hole);
  };

  EXPECT_EQ(extent_at(0), std::make_pair(kBlock, false));
  EXPECT_EQ(extent_at(kBlock), std::make_pair(kBlock, false));
  EXPECT_EQ(extent_at(3 * kBlock + 100), std::make_pair(kBlock - 100, true));
  EXPECT_FALSE(extent_at(4 * kBlock).second);
}

}  // namespace
}  // namespace pcachefs
