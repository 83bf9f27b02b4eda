// Proves when space comes back: only clean data, only what a durable key_tail
// has left (C4, C5), nothing that a reader is copying (C2).

#include "core/reclaim.h"

#include <array>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "core/image_space.h"
#include "core/options.h"
#include "core/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/geometry.h"
#include "meta/records.h"
#include "meta/slot_pair.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/scripted_disk.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/fake_clock.h"
#include "test/fakes/fake_media.h"
#include "test/fakes/random.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr uint64_t kBlock = kBlockSize;

const auto kIsLost = StatusIs(absl::StatusCode::kDataLoss);

class ReclaimTest : public testing::Test {
 protected:
  void StartWith(int gc_percent, uint64_t segments = 16) {
    CoreMachine::Options options;
    options.image.gc_percent = gc_percent;
    options.image.cache_size = segments * kMiB;
    options.cache.try_read_miss_percent = try_read_miss_percent_;
    options.cache.atom_size = cache_atom_size_;
    machine_ = std::make_unique<CoreMachine>(options);
    machine_->disk().Fill(0, std::string(machine_->disk().size(), 'd'));
    ASSERT_THAT(machine_->Start(), IsOk());
  }
  // Dirty data of so many segments, made clean.
  void WriteAndDrain(uint64_t segments) {
    for (uint64_t i = 0; i < segments; ++i) {
      ASSERT_THAT(machine_->Write(i % 8 * kMiB, std::string(kMiB, 'w')),
                  IsOk());
    }
    ASSERT_THAT(machine_->Drain(), IsOk());
    ASSERT_TRUE(machine_->RunIdle());
  }
  // A log of two segments, all of it written back and nothing reclaimed.
  void FillFirstLogSegment() {
    const SegmentId first = machine_->core().log().head().segment;
    machine_->disk().set_automatic(false);
    for (uint64_t i = 0; machine_->core().log().head().segment == first; ++i) {
      ASSERT_LT(i, 100'000u);
      ASSERT_TRUE(machine_->StartDiscard(i % 2000 * kBlock, kBlock)->done);
    }
    machine_->disk().set_automatic(true);
  }
  // Every second block from the start is lost to damage of the cache device.
  void LoseBlocks(uint64_t count) {
    machine_->disk().set_automatic(false);
    for (uint64_t i = 0; i < count; ++i) {
      ASSERT_TRUE(
          machine_->StartWrite(2 * i * kBlock, std::string(kBlock, 'x'))
              ->done);
      machine_->Corrupt(machine_->PlaceOf(2 * i * kBlock));
    }
    machine_->disk().set_automatic(true);
    ASSERT_THAT(machine_->Drain(), IsOk());
  }
  // What a crash at this instant would find where key_tail points.
  SegmentRecord RecordAtDurableKeyTail() {
    const LogTails tails = machine_->DurableTails();
    const FakeMedia media = machine_->cache_device().media();
    const Geometry& geometry = machine_->core().table().geometry();
    std::array<std::array<std::byte, SegmentRecord::kSize>, 2> slots;
    for (int slot : {0, 1}) {
      media.visible().Read(
          geometry.segment_record(tails.key_tail.segment, slot).value(),
          slots[slot]);
    }
    return ChooseSlot<SegmentRecord>(slots[0], slots[1])->value;
  }

  CoreMachine& machine() { return *machine_; }

  uint64_t try_read_miss_percent_ = 0;
  uint32_t cache_atom_size_ = 512;

 private:
  std::unique_ptr<CoreMachine> machine_;
};

TEST_F(ReclaimTest, NothingIsFreedBelowTheThreshold) {
  StartWith(90);
  WriteAndDrain(5);

  EXPECT_EQ(machine().status().counters.reclaimed_segments, 0u);
  EXPECT_GE(machine().status().cache_used_segs, 6u);
}

TEST_F(ReclaimTest, ThresholdOfNothingFreesAllThatIsClean) {
  StartWith(0);
  WriteAndDrain(5);

  // The log's and the open one.
  EXPECT_LE(machine().status().cache_used_segs, 2u);
  EXPECT_EQ(machine().status().key_tail.sequence,
            machine().status().key_head.sequence);
  EXPECT_THAT(machine().Read(0, kBlock),
              IsOkAndHolds(std::string(kBlock, 'w')));
}

TEST_F(ReclaimTest, FreesTheOldestDownToTheThreshold) {
  StartWith(50);
  WriteAndDrain(14);

  EXPECT_LT(machine().status().cache_used_segs, 8u);
  EXPECT_GT(machine().status().cache_used_segs, 4u);
  EXPECT_EQ(machine().PlaceOf(7 * kMiB), 0u) << "the oldest is still there";
  EXPECT_NE(machine().PlaceOf(5 * kMiB), 0u) << "the newest is gone";
}

TEST_F(ReclaimTest, DirtyDataIsNeverFreed) {
  StartWith(0);
  machine().disk().set_automatic(false);
  ASSERT_THAT(machine().Write(0, std::string(4 * kMiB, 'w')), IsOk());
  ASSERT_THAT(machine().Flush(), IsOk());

  ASSERT_TRUE(machine().RunIdle());

  EXPECT_EQ(machine().status().counters.reclaimed_segments, 0u);
  EXPECT_THAT(machine().Read(0, 4 * kMiB),
              IsOkAndHolds(std::string(4 * kMiB, 'w')));
}

TEST_F(ReclaimTest, OverwrittenPartsDoNotTakeNewerOnesAlong) {
  StartWith(90);
  ASSERT_THAT(machine().Write(0, std::string(3 * kBlock, 'o')), IsOk());
  ASSERT_THAT(machine().Write(kMiB, std::string(2 * kMiB, 'f')), IsOk());
  ASSERT_THAT(machine().Drain(), IsOk());
  machine().disk().set_automatic(false);
  ASSERT_TRUE(machine().StartWrite(kBlock, std::string(kBlock, 'n'))->done);
  ASSERT_THAT(machine().image().Change({.gc_percent = 0}), IsOk());
  ASSERT_TRUE(machine().RunIdle());

  EXPECT_EQ(machine().PlaceOf(0), 0u);
  EXPECT_NE(machine().PlaceOf(kBlock), 0u);
  machine().disk().set_automatic(true);
  machine().disk().CompleteAll();
  EXPECT_THAT(machine().Read(0, 3 * kBlock),
              IsOkAndHolds(std::string(kBlock, 'o') + std::string(kBlock, 'n') +
                           std::string(kBlock, 'o')));
}

TEST_F(ReclaimTest, SegmentThatAReaderCopiesIsFreedLater) {
  try_read_miss_percent_ = 100;
  StartWith(90);
  ASSERT_THAT(machine().Write(0, std::string(kMiB, 'w')), IsOk());
  ASSERT_THAT(machine().Write(kMiB, std::string(kMiB, 'v')), IsOk());
  ASSERT_THAT(machine().Drain(), IsOk());
  const uint64_t place = machine().PlaceOf(0);
  const Pending read = machine().StartRead(0, kBlock);
  ASSERT_FALSE(read->done);
  ASSERT_THAT(machine().image().Change({.gc_percent = 0}), IsOk());
  const auto run = [&] {
    for (int i = 0; i < 10; ++i) machine().cache().Step();
  };

  run();  // but the device does not answer the reader
  ASSERT_NE(machine().PlaceOf(0), place);
  const uint32_t used = machine().status().cache_used_segs;
  machine().cache_device().CompletePending();
  EXPECT_EQ(read->bytes, std::string(kBlock, 'w'));
  EXPECT_THAT(read->status, IsOk());
  run();

  EXPECT_LT(machine().status().cache_used_segs, used);
}

TEST_F(ReclaimTest, ReaderThatNeverEndsHoldsUpOneSegmentOnly) {
  try_read_miss_percent_ = 100;
  StartWith(90, kMinShare);
  for (uint64_t i = 0; i < 3; ++i) {
    ASSERT_THAT(machine().Write(i * kMiB, std::string(kMiB, 'w')), IsOk());
  }
  ASSERT_THAT(machine().Drain(), IsOk());
  const Pending read = machine().StartRead(0, kBlock);
  ASSERT_FALSE(read->done);

  // Its device answers nobody, but the writers' need no answer.
  for (uint64_t i = 0; i < 20; ++i) {
    const Pending write =
        machine().StartWrite(i % 8 * kMiB, std::string(kMiB, 'v'));
    for (int step = 0; step < 1000 && !write->done; ++step) {
      machine().cache().Step();
      machine().clock().Advance(absl::Milliseconds(10));
    }
    ASSERT_TRUE(write->done) << i;
  }

  EXPECT_FALSE(read->done);
  machine().cache_device().CompletePending();
  EXPECT_EQ(read->bytes, std::string(kBlock, 'w'));
}

TEST_F(ReclaimTest, LogOfNothingButMarksIsLeftAlone) {
  StartWith(0);
  LoseBlocks(3);
  for (int i = 0; i < 10; ++i) {
    machine().clock().Advance(absl::Seconds(2));
    ASSERT_TRUE(machine().RunIdle());
  }
  const SequenceNumber last = machine().core().log().last();

  for (int i = 0; i < 10; ++i) {
    machine().clock().Advance(absl::Seconds(2));
    ASSERT_TRUE(machine().RunIdle());
  }

  EXPECT_EQ(machine().core().log().last(), last);
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_THAT(machine().Read(2 * i * kBlock, kBlock), kIsLost);
  }
}

TEST_F(ReclaimTest, MarksFindRoomInALogThatFillsTheShare) {
  StartWith(90, kMinShare);
  LoseBlocks(300);
  machine().disk().set_automatic(false);
  Pending last;
  for (int i = 0; i < 1'000'000 && (last == nullptr || last->done); ++i) {
    last = machine().StartDiscard(4 * kMiB + i % 500 * kBlock, kBlock);
  }
  ASSERT_FALSE(last->done);
  machine().disk().set_automatic(true);
  machine().disk().CompleteAll();

  ASSERT_THAT(machine().Await(last), IsOk());

  ASSERT_THAT(machine().image().Change({.gc_percent = 0}), IsOk());
  for (int i = 0; i < 10; ++i) {
    machine().clock().Advance(absl::Seconds(2));
    ASSERT_TRUE(machine().RunIdle());
  }
  EXPECT_LE(machine().status().cache_used_segs, 2u);
  for (uint64_t i = 0; i < 300; ++i) {
    EXPECT_THAT(machine().Read(2 * i * kBlock, kBlock), kIsLost);
  }
  machine().CutPower(5);
  ASSERT_THAT(machine().Start(), IsOk());
  EXPECT_THAT(machine().Read(0, kBlock), kIsLost);
}

TEST_F(ReclaimTest, LogSegmentIsFreedOnlyBehindADurableKeyTail) {
  StartWith(90);
  FillFirstLogSegment();
  const SegmentId first = machine().status().key_tail.segment;
  int changes = 0;
  machine().cache_device().set_hook([&] {
    ++changes;
    const SegmentRecord record = RecordAtDurableKeyTail();
    EXPECT_EQ(record.use, SegmentUse::kLog);
    EXPECT_EQ(record.generation, machine().DurableTails().key_tail.generation);
  });

  ASSERT_THAT(machine().Drain(), IsOk());
  ASSERT_THAT(machine().image().Change({.gc_percent = 0}), IsOk());
  ASSERT_TRUE(machine().RunIdle());

  EXPECT_GT(changes, 5);
  EXPECT_EQ(machine().core().table().record(first).use, SegmentUse::kFree);
  machine().cache_device().set_hook(nullptr);
}

TEST_F(ReclaimTest, KeyTailThatCouldNotBeStoredFreesNothing) {
  StartWith(90);
  FillFirstLogSegment();
  ASSERT_THAT(machine().Drain(), IsOk());
  ASSERT_THAT(machine().image().Change({.gc_percent = 0}), IsOk());
  const SegmentId first = machine().status().key_tail.segment;
  const uint64_t tails =
      machine().core().table().geometry().log_tails(ImageId(0), 0).value();
  machine().cache_device().FailRange(FakeCacheDevice::kWrite, tails, 2 * 4096,
                                     /*times=*/1);

  EXPECT_TRUE(machine().RunIdle());

  EXPECT_EQ(machine().cache().status().state, HealthState::kFailed);  // C9
  EXPECT_EQ(RecordAtDurableKeyTail().use, SegmentUse::kLog);
  machine().Kill();
  ASSERT_THAT(machine().Start(), IsOk());
  ASSERT_TRUE(machine().RunIdle());
  EXPECT_EQ(machine().core().table().record(first).use, SegmentUse::kFree);
}

TEST_F(ReclaimTest, SegmentWhoseRecordCouldNotBeStoredIsFreedAfterAStart) {
  StartWith(0);
  // One batch of writeback, so that the drain has ended when reclaim fails.
  ASSERT_THAT(machine().Write(0, std::string(2 * kMiB, 'w')), IsOk());
  const Geometry geometry = machine().core().table().geometry();
  machine().cache_device().FailRange(
      FakeCacheDevice::kWrite, geometry.segment_table(0).value(),
      geometry.metadata_bytes() - geometry.segment_table(0).value(),
      /*times=*/1);

  ASSERT_THAT(machine().Drain(), IsOk());
  ASSERT_TRUE(machine().RunIdle());
  EXPECT_TRUE(machine().cache_device().fault_fired());

  machine().Kill();
  ASSERT_THAT(machine().Start(), IsOk());
  ASSERT_TRUE(machine().RunIdle());
  EXPECT_LE(machine().status().cache_used_segs, 2u);
}

TEST_F(ReclaimTest, StoreDuringThePersistOfKeyTailDoesNotTakeItBack) {
  // In memory, 8 bytes at a time. Reclaim stores key_tail and persists it;
  // while that is on its way somebody else (writeback, the commit timer) stores
  // the tails, into the same slot, since the other one holds all that is
  // durable so far. What reclaim has made durable may then be torn by a power
  // cut, so the log segment that it left must not be free yet.
  cache_atom_size_ = 8;
  StartWith(90);
  FillFirstLogSegment();
  ASSERT_THAT(machine().Drain(), IsOk());
  ASSERT_THAT(machine().image().Change({.gc_percent = 0}), IsOk());
  uint64_t journal_end = machine().cache_device().media().journal_end();
  int persists = 0;
  int starts = 0;
  machine().cache_device().set_hook([&] {
    const uint64_t end = machine().cache_device().media().journal_end();
    const bool is_persist = std::exchange(journal_end, end) == end;
    if (!is_persist) return;
    if (++persists == 1) {
      ASSERT_THAT(machine().core().tails().Store(/*clean_stop=*/false), IsOk());
      return;
    }
    for (uint64_t seed = 0; seed < 40; ++seed) {
      const auto fork = machine().cache_device().Fork();
      Random random(seed);
      fork->CutPower(random);
      FakeClock clock;
      ScriptedDisk disk(machine().disk().size());
      const auto cache =
          Cache::Open(*fork, CacheOptions{.start_threads = false}, clock);
      ASSERT_THAT(cache, IsOk());
      ASSERT_THAT((*cache)->Attach("vm1", disk.Open(), {}), IsOk());
      ++starts;
    }
  });

  machine().core().reclaim().Step();
  machine().core().reclaim().Step();
  machine().cache_device().set_hook(nullptr);

  EXPECT_GT(starts, 0);
}

}  // namespace
}  // namespace pcachefs
