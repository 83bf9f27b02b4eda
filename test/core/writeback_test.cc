// Proves in which order data reaches the backing device, and what happens when
// it does not (C3): requests are looked at one by one as they are submitted.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "iobackend/backing_device.h"
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
using Operation = ScriptedDisk::Operation;

constexpr uint64_t kBlock = kBlockSize;

std::string Blocks(char letter, uint64_t count = 1) {
  return std::string(count * kBlock, letter);
}

class WritebackTest : public testing::Test {
 protected:
  void StartWith(const CoreMachine::Options& options) {
    machine_ = std::make_unique<CoreMachine>(options);
    machine_->disk().Fill(0, std::string(machine_->disk().size(), 'd'));
    ASSERT_THAT(machine_->Start(), IsOk());
  }
  void SetUp() override { StartWith({}); }

  // Written but not flushed, so that nothing is written back meanwhile.
  void Write(uint64_t offset, const std::string& bytes) {
    const Pending write = machine().StartWrite(offset, bytes);
    ASSERT_TRUE(write->done);
    ASSERT_THAT(write->status, IsOk());
  }
  // Flushed, without any other background work.
  void Flush() {
    const Pending flush = machine().StartFlush();
    machine().core().barrier().Step();
    ASSERT_TRUE(flush->done);
    ASSERT_THAT(flush->status, IsOk());
  }
  absl::Duration TimeToNextRequest() {
    const absl::Time begin = machine().clock().Now();
    const size_t before = disk().history().size();
    while (disk().history().size() == before &&
           machine().clock().Now() - begin < absl::Minutes(1)) {
      EXPECT_TRUE(machine().RunIdle());
      if (disk().history().size() != before) break;
      machine().clock().Advance(absl::Milliseconds(1));
    }
    return machine().clock().Now() - begin;
  }

  CoreMachine& machine() { return *machine_; }
  ScriptedDisk& disk() { return machine_->disk(); }

 private:
  std::unique_ptr<CoreMachine> machine_;
};

TEST_F(WritebackTest, NothingThatIsNotDurableLeaves) {
  Write(0, Blocks('w'));

  EXPECT_TRUE(machine().RunIdle());
  EXPECT_THAT(disk().history(), IsEmpty());

  machine().clock().Advance(absl::Seconds(2));  // committed by age
  EXPECT_TRUE(machine().RunIdle());
  EXPECT_THAT(disk().history(), ElementsAre("write 0+4096", "flush"));
  EXPECT_EQ(disk().Content(0, kBlock), Blocks('w'));
  EXPECT_EQ(machine().status().dirty_bytes, 0u);
}

TEST_F(WritebackTest, NoEpochBeginsBeforeTheOneBeforeItIsOver) {
  // Every epoch overwrites what the one before it wrote, and adds a block.
  std::vector<SequenceNumber> ends;
  for (uint64_t epoch = 0; epoch < 6; ++epoch) {
    Write(0, Blocks('a' + epoch));
    Write((epoch + 1) * 2 * kBlock, Blocks('a' + epoch));
    ends.push_back(machine().core().log().last());
    Flush();
  }
  std::vector<uint64_t> epochs;
  disk().set_on_submit([&](const BackingRequest& request) {
    if (request.operation != Operation::kWrite || request.offset == 0) return;
    const uint64_t epoch = request.offset / (2 * kBlock) - 1;
    epochs.push_back(epoch);
    if (epoch == 0) return;
    // What a power cut would leave now does not know the old epoch any more.
    EXPECT_GT(machine().DurableTails().dirty_tail.sequence, ends[epoch - 1]);
    EXPECT_EQ(disk().Content(epoch * 2 * kBlock, kBlock),
              Blocks('a' + epoch - 1));
    const std::vector<std::string>& history = disk().history();
    EXPECT_EQ(history[history.size() - 3], "flush");
  });

  ASSERT_THAT(machine().Drain(), IsOk());

  EXPECT_THAT(epochs, ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(disk().history().size(), 6u * 3);
}

TEST_F(WritebackTest, DirtyTailStaysUntilTheBackingDeviceHasFlushed) {
  disk().set_automatic(false);
  Write(0, Blocks('w'));
  Flush();
  const SequenceNumber tail = machine().DurableTails().dirty_tail.sequence;

  EXPECT_TRUE(machine().RunIdle());
  ASSERT_THAT(disk().pending(), ElementsAre("write 0+4096"));
  disk().Complete();
  EXPECT_TRUE(machine().RunIdle());
  ASSERT_THAT(disk().pending(), ElementsAre("flush"));
  EXPECT_EQ(machine().DurableTails().dirty_tail.sequence, tail);
  EXPECT_EQ(machine().status().dirty_bytes, kBlock);

  disk().Complete();
  EXPECT_TRUE(machine().RunIdle());
  EXPECT_GT(machine().DurableTails().dirty_tail.sequence, tail);
  EXPECT_EQ(machine().status().dirty_bytes, 0u);
}

TEST_F(WritebackTest, StartBeginsAnEpoch) {
  Write(0, Blocks('a'));
  machine().Kill();
  ASSERT_THAT(machine().Start(), IsOk());
  Write(0, Blocks('b'));
  Write(kBlock, Blocks('b'));

  ASSERT_THAT(machine().Drain(), IsOk());

  EXPECT_THAT(disk().history(),
              ElementsAre("write 0+4096", "flush", "write 0+8192", "flush"));
}

TEST_F(WritebackTest, NewestOfAnEpochWinsAndNeighboursAreOneRequest) {
  Write(5 * kBlock, Blocks('5'));
  Write(2 * kBlock, Blocks('x', 2));
  Write(kBlock, Blocks('1'));
  Write(3 * kBlock, Blocks('3'));
  Write(2 * kBlock, Blocks('2'));
  Write(9 * kBlock, Blocks('9'));

  ASSERT_THAT(machine().Drain(), IsOk());

  EXPECT_THAT(disk().history(),
              ElementsAre("write 4096+12288", "write 20480+4096",
                          "write 36864+4096", "flush"));
  EXPECT_EQ(disk().Content(0, 6 * kBlock), "" + Blocks('d') + Blocks('1') +
                                               Blocks('2') + Blocks('3') +
                                               Blocks('d') + Blocks('5'));
}

TEST_F(WritebackTest, ZeroesAndDiscardsStayWhatTheyAre) {
  const auto erase = [&](const Pending& pending) {
    ASSERT_TRUE(pending->done);
  };
  erase(machine().StartDiscard(0, 8 * kBlock));
  erase(machine().StartZero(8 * kBlock, kBlock));
  erase(machine().StartZero(9 * kBlock, kBlock));
  Write(kBlock, Blocks('w'));

  ASSERT_THAT(machine().Drain(), IsOk());

  EXPECT_THAT(disk().history(),
              ElementsAre("discard 0+4096", "write 4096+4096",
                          "discard 8192+24576", "zero 32768+8192", "flush"));
}

TEST_F(WritebackTest, RequestsAndBatchesAreBounded) {
  CoreMachine::Options options;
  options.cache_options.writeback_batch = 2 * kMiB;
  StartWith(options);
  for (uint64_t at = 0; at < 3 * kMiB; at += 512 * kKiB) {
    Write(at, std::string(512 * kKiB, 'w'));
  }

  ASSERT_THAT(machine().Drain(), IsOk());

  EXPECT_THAT(disk().history(),
              ElementsAre("write 0+1048576", "write 1048576+1048576", "flush",
                          "write 2097152+1048576", "flush"));
}

TEST_F(WritebackTest, MappedDeviceIsWrittenBackFromWhereItIs) {
  CoreMachine::Options options;
  options.cache.mapped = true;
  StartWith(options);
  Write(512, Blocks('w', 3));
  Write(1024, std::string(512, 'x'));

  ASSERT_THAT(machine().Drain(), IsOk());

  EXPECT_EQ(disk().Content(0, 2048),
            std::string(512, 'd') + std::string(512, 'w') +
                std::string(512, 'x') + std::string(512, 'w'));
}

TEST_F(WritebackTest, FailureIsRetriedWithBackOffAndShown) {
  Write(0, Blocks('w'));
  Flush();
  disk().Fail(Operation::kWrite, absl::UnavailableError("unplugged"));

  EXPECT_EQ(TimeToNextRequest(), absl::ZeroDuration());
  EXPECT_EQ(TimeToNextRequest(), absl::Milliseconds(100));
  EXPECT_EQ(machine().status().state, HealthState::kDegraded);
  EXPECT_THAT(machine().status().state_reason, HasSubstr("unplugged"));
  EXPECT_EQ(TimeToNextRequest(), absl::Milliseconds(200));
  EXPECT_EQ(TimeToNextRequest(), absl::Milliseconds(400));
  for (int i = 0; i < 5; ++i) TimeToNextRequest();
  EXPECT_EQ(TimeToNextRequest(), absl::Seconds(5));
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Blocks('w')));

  disk().Fail(Operation::kWrite, absl::OkStatus());
  EXPECT_THAT(machine().Drain(), IsOk());
  EXPECT_EQ(machine().status().state, HealthState::kRunning);
  EXPECT_EQ(disk().Content(0, kBlock), Blocks('w'));
}

// How long the backing device has failed says nothing of the cache device.
TEST_F(WritebackTest, UnreadableOnceAfterALongOutageIsNotLost) {
  Write(0, Blocks('w'));
  Flush();
  disk().Fail(Operation::kWrite, absl::UnavailableError("unplugged"));
  for (int i = 0; i < 20; ++i) TimeToNextRequest();

  machine().cache_device().FailRange(FakeCacheDevice::kRead,
                                     machine().PlaceOf(0), kBlock);
  disk().Fail(Operation::kWrite, absl::OkStatus());
  machine().clock().Advance(absl::Seconds(6));
  EXPECT_TRUE(machine().RunIdle());
  EXPECT_EQ(machine().status().dirty_bytes, kBlock);
  machine().cache_device().ClearFaults();

  EXPECT_THAT(machine().Drain(), IsOk());
  EXPECT_EQ(disk().Content(0, kBlock), Blocks('w'));
  EXPECT_EQ(machine().status().state, HealthState::kRunning);
}

TEST_F(WritebackTest, FailedFlushOfTheBackingDeviceWritesEverythingAgain) {
  Write(0, Blocks('w'));
  disk().Fail(Operation::kFlush, absl::UnavailableError("no"));
  const SequenceNumber tail = machine().DurableTails().dirty_tail.sequence;
  Flush();

  EXPECT_TRUE(machine().RunIdle());
  EXPECT_EQ(machine().DurableTails().dirty_tail.sequence, tail);
  disk().Fail(Operation::kFlush, absl::OkStatus());
  EXPECT_THAT(machine().Drain(), IsOk());

  EXPECT_THAT(disk().history(),
              ElementsAre("write 0+4096", "flush", "write 0+4096", "flush"));
}

TEST_F(WritebackTest, DrainEndsWithAnErrorThatDoesNotGoAway) {
  Write(0, Blocks('w'));
  disk().Fail(Operation::kWrite, absl::ResourceExhaustedError("disk is full"));

  EXPECT_THAT(machine().Drain(), StatusIs(absl::StatusCode::kResourceExhausted,
                                          HasSubstr("disk is full")));

  EXPECT_EQ(machine().status().dirty_bytes, kBlock);
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Blocks('w')));
  disk().Fail(Operation::kWrite, absl::OkStatus());
  EXPECT_THAT(machine().Drain(), IsOk());
  EXPECT_EQ(disk().Content(0, kBlock), Blocks('w'));
}

TEST_F(WritebackTest, DrainEndsWhenTheCacheDeviceFails) {
  Write(0, Blocks('w'));
  machine().cache_device().FailNth(FakeCacheDevice::kPersist, 0);

  EXPECT_THAT(machine().Drain(), StatusIs(absl::StatusCode::kUnavailable));

  EXPECT_THAT(disk().history(), IsEmpty());
}

TEST_F(WritebackTest, DrainEndsUnderLoad) {
  Write(0, Blocks('w'));
  const Pending drain = machine().StartDrain();
  for (int i = 0; i < 100 && !drain->done; ++i) {
    Write(i % 50 * kBlock, Blocks('n'));
    machine().cache().Step();
  }

  EXPECT_TRUE(drain->done);
  EXPECT_GT(machine().status().dirty_bytes, 0u);
}

TEST_F(WritebackTest, HangingBackingDeviceStopsNobodyElse) {
  disk().set_automatic(false);
  Write(0, Blocks('w'));
  Flush();
  EXPECT_TRUE(machine().RunIdle());
  ASSERT_THAT(disk().pending(), ElementsAre("write 0+4096"));

  machine().clock().Advance(absl::Hours(1));
  EXPECT_TRUE(machine().RunIdle());
  EXPECT_THAT(machine().Read(0, kBlock), IsOkAndHolds(Blocks('w')));
  EXPECT_THAT(machine().Write(kBlock, Blocks('v')), IsOk());
  EXPECT_THAT(machine().Flush(), IsOk());
  EXPECT_EQ(disk().pending().size(), 1u);
}

TEST_F(WritebackTest, DirtyTailDoesNotPassWhatAFailedPersistLeavesOpen) {
  Write(0, Blocks('w'));
  Flush();
  disk().set_automatic(false);
  EXPECT_TRUE(machine().RunIdle());
  disk().CompleteAll();
  EXPECT_TRUE(machine().RunIdle());
  ASSERT_THAT(disk().pending(), ElementsAre("flush"));
  machine().cache_device().FailNth(FakeCacheDevice::kPersist, 0);
  const SequenceNumber tail = machine().status().dirty_tail.sequence;

  disk().CompleteAll();
  EXPECT_TRUE(machine().RunIdle());

  EXPECT_EQ(machine().status().dirty_tail.sequence, tail);
  EXPECT_EQ(machine().status().state, HealthState::kFailed);
  EXPECT_THAT(machine().Write(0, Blocks('x')),  // C9
              StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(WritebackTest, BadPayloadThatWasOverwrittenInTheEpochIsNoLoss) {
  Write(0, Blocks('o'));
  machine().Corrupt(machine().PlaceOf(0));
  Write(0, Blocks('n'));

  ASSERT_THAT(machine().Drain(), IsOk());

  EXPECT_EQ(disk().Content(0, kBlock), Blocks('n'));
  EXPECT_EQ(machine().status().state, HealthState::kRunning);
}

TEST_F(WritebackTest, ReadOnlyImageIsNotWrittenBack) {
  CoreMachine::Options options;
  options.image.read_only = true;
  StartWith(options);

  machine().clock().Advance(absl::Hours(1));
  EXPECT_TRUE(machine().RunIdle());

  EXPECT_THAT(disk().history(), IsEmpty());
}

}  // namespace
}  // namespace pcachefs
