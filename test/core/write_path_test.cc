// Proves that writes of any range are atomic, are never refused or forgotten
// for lack of space, and end in the order in which they had to wait.

#include "core/write_path.h"

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/cached_image.h"
#include "core/image_space.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/scripted_disk.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kBlock = kBlockSize;

class WritePathTest : public testing::Test {
 protected:
  void StartWith(const CoreMachine::Options& options) {
    machine_ = std::make_unique<CoreMachine>(options);
    machine_->disk().Fill(0, std::string(machine_->disk().size(), 'd'));
    ASSERT_THAT(machine_->Start(), IsOk());
    machine_->disk().ClearHistory();
  }
  void SetUp() override { StartWith({}); }

  // The smallest share, filled with dirty data that cannot be written back.
  void StartFull() {
    CoreMachine::Options options;
    options.image.cache_size = kMinShare * kMiB;
    StartWith(options);
    disk().set_automatic(false);
    for (uint64_t at = 0; !machine().core().write_path().has_waiting();
         at += 64 * kKiB) {
      ASSERT_LT(at, machine().disk().size());
      filler_.push_back(machine().StartWrite(at, std::string(64 * kKiB, 'f')));
    }
    // One waits; the others were answered.
    ASSERT_FALSE(filler_.back()->done);
  }
  // The backing device moves again; background work until all is answered.
  absl::Status Unblock(const Pending& last) {
    disk().CompleteAll();
    disk().set_automatic(true);
    return machine().Await(last);
  }

  CoreMachine& machine() { return *machine_; }
  ScriptedDisk& disk() { return machine_->disk(); }
  const std::vector<Pending>& filler() const { return filler_; }

 private:
  std::unique_ptr<CoreMachine> machine_;
  std::vector<Pending> filler_;
};

TEST_F(WritePathTest, WriteIsSeenAtOnceAndLeavesTheBackingDeviceAlone) {
  const Pending write = machine().StartWrite(512, std::string(1024, 'w'));

  EXPECT_TRUE(write->done);
  EXPECT_THAT(write->status, IsOk());
  EXPECT_THAT(machine().Read(512, 1024), IsOkAndHolds(std::string(1024, 'w')));
  EXPECT_THAT(disk().history(), IsEmpty());
}

TEST_F(WritePathTest, RangesOutsideTheImageAreRefused) {
  const auto out_of_range = StatusIs(absl::StatusCode::kOutOfRange);

  EXPECT_THAT(machine().Write(8 * kMiB, "x"), out_of_range);
  EXPECT_THAT(machine().Write(8 * kMiB - 1, "xx"), out_of_range);
  EXPECT_THAT(machine().Zero(~uint64_t{0}, 2), out_of_range);
  EXPECT_THAT(machine().Discard(1, 8 * kMiB), out_of_range);
  EXPECT_THAT(machine().Write(8 * kMiB, ""), IsOk());
}

TEST_F(WritePathTest, UnalignedWriteKeepsTheBytesAroundIt) {
  disk().Fill(0, "0123456789");

  ASSERT_THAT(machine().Write(3, "abc"), IsOk());
  ASSERT_THAT(machine().Write(510, std::string(4, 'x')), IsOk());
  ASSERT_THAT(machine().Write(1020, std::string(2000, 'y')), IsOk());

  std::string want = "012abc6789" + std::string(3190, 'd');
  want.replace(510, 4, "xxxx");
  want.replace(1020, 2000, 2000, 'y');
  EXPECT_THAT(machine().Read(0, 3200), IsOkAndHolds(want));
}

TEST_F(WritePathTest, UnalignedWritesOfOneSectorDoNotUndoEachOther) {
  disk().set_automatic(false);

  const Pending first = machine().StartWrite(10, "first");
  const Pending second = machine().StartWrite(100, "second");
  const Pending beside = machine().StartWrite(512, std::string(512, 'w'));
  ASSERT_FALSE(first->done || second->done);
  // Both have asked for the sector as it was; every order must do.
  while (!disk().pending().empty())
    disk().Complete(disk().pending().size() - 1);

  EXPECT_TRUE(first->done && second->done);
  std::string want(512, 'd');
  want.replace(10, 5, "first");
  want.replace(100, 6, "second");
  EXPECT_THAT(machine().Read(0, 512), IsOkAndHolds(want));
}

TEST_F(WritePathTest, UnalignedWriteKeepsAWriteThatCameInBetween) {
  disk().set_automatic(false);
  const Pending unaligned = machine().StartWrite(10, "unaligned");
  ASSERT_THAT(disk().pending(), ElementsAre("read 0+512"));

  ASSERT_TRUE(machine().StartWrite(0, std::string(512, 'w'))->done);
  disk().Complete();

  EXPECT_TRUE(unaligned->done);
  std::string want(512, 'w');
  want.replace(10, 9, "unaligned");
  EXPECT_THAT(machine().Read(0, 512), IsOkAndHolds(want));
}

TEST_F(WritePathTest, UnalignedWriteKeepsADiscardThatCameInBetween) {
  disk().set_automatic(false);
  const Pending unaligned = machine().StartWrite(510, "edges");
  ASSERT_THAT(disk().pending(), ElementsAre("read 0+512", "read 512+512"));
  disk().Complete();

  ASSERT_TRUE(machine().StartDiscard(512, 512)->done);
  disk().Complete();
  disk().CompleteAll();

  EXPECT_TRUE(unaligned->done);
  EXPECT_THAT(machine().Read(509, 8),
              IsOkAndHolds("dedges" + std::string(2, '\0')));
}

TEST_F(WritePathTest, UnalignedWriteFailsWhenItsEdgesCannotBeRead) {
  disk().Fail(ScriptedDisk::Operation::kRead, absl::UnavailableError("gone"));
  EXPECT_THAT(machine().Write(1, "x"),
              StatusIs(absl::StatusCode::kUnavailable));
  disk().Fail(ScriptedDisk::Operation::kRead, absl::OkStatus());

  EXPECT_THAT(machine().Write(1, "x"), IsOk());
  EXPECT_THAT(machine().Read(0, 3), IsOkAndHolds("dxd"));
}

TEST_F(WritePathTest, ZeroAndDiscardOfOddRangesTouchNothingElse) {
  struct Case {
    uint64_t offset, length;
  };
  for (const Case c : {Case{1, 2},
                       {511, 2},
                       {512, 512},
                       {700, 1000},
                       {1, 4095},
                       {4096, 4097},
                       {4 * kMiB - 3, 7}}) {
    for (const bool zero : {true, false}) {
      const uint64_t begin = c.offset > 4096 ? c.offset - 4096 : 0;
      const std::string before(c.length + 8192, 'w');
      ASSERT_THAT(machine().Write(begin, before), IsOk());

      ASSERT_THAT(zero ? machine().Zero(c.offset, c.length)
                       : machine().Discard(c.offset, c.length),
                  IsOk());

      std::string want = before;
      want.replace(c.offset - begin, c.length, c.length, '\0');
      EXPECT_THAT(machine().Read(begin, want.size()), IsOkAndHolds(want))
          << c.offset << '+' << c.length;
    }
  }
  ASSERT_THAT(machine().Drain(), IsOk());
  EXPECT_THAT(machine().Read(0, 64 * kKiB),
              IsOkAndHolds(disk().Content(0, 64 * kKiB)));
}

TEST_F(WritePathTest, WriteLargerThanTheCacheEnds) {
  CoreMachine::Options options;
  options.image_size = 32 * kMiB;
  options.image.cache_size = kMinShare * kMiB;
  StartWith(options);
  std::string bytes;
  for (uint64_t at = 0; at < 20 * kMiB; at += kBlock) {
    bytes.append(kBlock, static_cast<char>('A' + at / kBlock % 50));
  }

  const Pending aligned = machine().StartWrite(512, bytes);
  ASSERT_THAT(machine().Await(aligned), IsOk());
  EXPECT_THAT(machine().Read(512, bytes.size()), IsOkAndHolds(bytes));

  const Pending unaligned = machine().StartWrite(5 * kMiB + 1, bytes);
  ASSERT_THAT(machine().Await(unaligned), IsOk());
  EXPECT_THAT(machine().Read(5 * kMiB + 1, bytes.size()), IsOkAndHolds(bytes));
  EXPECT_THAT(machine().Read(5 * kMiB, 1),
              IsOkAndHolds(bytes.substr(5 * kMiB - 512, 1)));
}

TEST_F(WritePathTest, UnalignedWriteTooLongForOneKeySetEnds) {
  CoreMachine::Options options;
  options.cache.size = 160 * kMiB;
  options.image_size = 100 * kMiB;
  StartWith(options);

  ASSERT_THAT(machine().Write(1, std::string(90 * kMiB, 'u')), IsOk());

  EXPECT_THAT(machine().Read(0, 2), IsOkAndHolds("du"));
  EXPECT_THAT(machine().Read(90 * kMiB, 2), IsOkAndHolds("ud"));
}

TEST_F(WritePathTest, BackgroundWorkRestsWhileAnUnalignedWriteWaits) {
  StartFull();
  machine().core().write_path().FailWaiting(absl::UnavailableError("enough"));
  const Pending first = machine().StartWrite(1, "first");
  const Pending second = machine().StartWrite(512 * 5 + 1, "second");
  ASSERT_FALSE(first->done || second->done);

  // Rounds that have nothing to do end at once; the worker comes back later.
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(machine().RunIdle()) << "work without end";
  }

  EXPECT_FALSE(first->done || second->done);
  ASSERT_THAT(Unblock(first), IsOk());
  ASSERT_THAT(machine().Await(second), IsOk());
  EXPECT_THAT(machine().Read(0, 7), IsOkAndHolds("ffirstf"));
}

TEST_F(WritePathTest, WritersThatWaitEndInTheOrderTheyCame) {
  StartFull();
  std::vector<int> order;
  std::vector<std::string> bytes;
  for (int i = 0; i < 8; ++i) bytes.emplace_back(kBlock * (8 - i), 'a' + i);
  for (int i = 0; i < 8; ++i) {
    machine().image().Write({ImageOffset(0), bytes[i].size()},
                            std::as_bytes(std::span(bytes[i])),
                            CachedImage::Payload::kBorrowUntilDone,
                            [&order, i](absl::Status) { order.push_back(i); });
  }
  EXPECT_THAT(order, IsEmpty());
  const Pending last = machine().StartWrite(0, std::string(512, 'z'));

  ASSERT_THAT(Unblock(last), IsOk());

  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(machine().Read(0, 1024),
              IsOkAndHolds(std::string(512, 'z') + std::string(512, 'h')));
}

TEST_F(WritePathTest, BytesOfAWriterThatWaitsAreCopiedIfHeWants) {
  StartFull();
  std::string bytes(kBlock, 'x');
  bool done = false;
  machine().image().Write(
      {ImageOffset(0), kBlock}, std::as_bytes(std::span(bytes)),
      CachedImage::Payload::kCopyIfWaiting, [&](absl::Status) { done = true; });
  bytes.assign(kBlock, '!');

  ASSERT_THAT(Unblock(machine().StartWrite(kBlock, std::string(512, 'y'))),
              IsOk());

  EXPECT_TRUE(done);
  EXPECT_THAT(machine().Read(0, kBlock),
              IsOkAndHolds(std::string(kBlock, 'x')));
}

TEST_F(WritePathTest, SixtyFourWritersThatWaitInTheSmallestShareAllEnd) {
  StartFull();
  std::vector<Pending> writers;
  for (uint64_t i = 0; i < 64; ++i) {
    writers.push_back(machine().StartWrite(
        i * 100'001, std::string(1 + i * 1000, static_cast<char>('0' + i))));
  }

  for (const Pending& writer : writers) {
    ASSERT_THAT(Unblock(writer), IsOk());
  }

  for (uint64_t i = 0; i < 64; ++i) {
    EXPECT_THAT(
        machine().Read(i * 100'001, 1 + i * 1000),
        IsOkAndHolds(std::string(1 + i * 1000, static_cast<char>('0' + i))));
  }
  ASSERT_THAT(machine().Drain(), IsOk());
}

TEST_F(WritePathTest, DiscardsAloneFillTheLogAndWaitForItToo) {
  CoreMachine::Options options;
  options.image.cache_size = kMinShare * kMiB;
  StartWith(options);
  disk().set_automatic(false);
  std::vector<Pending> discards;
  uint64_t count = 0;
  while (!machine().core().write_path().has_waiting()) {
    ASSERT_LT(++count, 200'000u);
    discards = {machine().StartDiscard(count % 1000 * kBlock, kBlock)};
  }

  EXPECT_THAT(Unblock(discards.back()), IsOk());

  EXPECT_THAT(machine().Write(0, "still works"), IsOk());
}

TEST_F(WritePathTest, FillsNeverTakeWhatWritersWaitFor) {
  StartFull();
  const uint64_t offset = 7 * kMiB;
  const Pending read = machine().StartRead(offset, kBlock);
  disk().CompleteAll();

  EXPECT_TRUE(read->done);
  EXPECT_EQ(machine().status().counters.fills, 0u);
  EXPECT_EQ(machine().status().counters.fills_dropped, 1u);
}

TEST_F(WritePathTest, WaitingWritersAreToldWhenTheCacheEnds) {
  StartFull();
  EXPECT_TRUE(machine().core().write_path().has_waiting());
  const Pending aligned = machine().StartWrite(0, std::string(512, 'x'));
  const Pending unaligned = machine().StartWrite(1, "x");
  const Pending erase = machine().StartZero(0, kBlock);

  machine().core().write_path().FailWaiting(absl::UnavailableError("closing"));

  EXPECT_FALSE(machine().core().write_path().has_waiting());
  for (const Pending& writer : {filler().back(), aligned, unaligned, erase}) {
    EXPECT_TRUE(writer->done);
    EXPECT_THAT(writer->status, StatusIs(absl::StatusCode::kUnavailable));
  }
}

TEST_F(WritePathTest, EveryWaiterIsAnsweredWhenTheDaemonEnds) {
  StartFull();
  const Pending waiting = machine().StartWrite(7 * kMiB + 1, "x");
  const Pending reading = machine().StartWrite(6 * kMiB + 1, "x");

  machine().Kill();

  EXPECT_TRUE(filler().back()->done);
  EXPECT_TRUE(waiting->done);
  EXPECT_TRUE(reading->done);
}

TEST_F(WritePathTest, ReadOnlyImageRefusesChanges) {
  CoreMachine::Options options;
  options.image.read_only = true;
  StartWith(options);
  const auto refused = StatusIs(absl::StatusCode::kFailedPrecondition);

  EXPECT_THAT(machine().Write(0, "x"), refused);
  EXPECT_THAT(machine().Zero(0, 512), refused);
  EXPECT_THAT(machine().Discard(0, 512), refused);
  EXPECT_THAT(machine().Read(0, 1), IsOkAndHolds("d"));
}

}  // namespace
}  // namespace pcachefs
