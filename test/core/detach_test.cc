// Proves what detach leaves behind: nothing, or all of it; also when power goes
// off, or the cache device fails, at any I/O of it.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "core/check.h"
#include "core/image_core.h"
#include "core/image_map.h"
#include "core/options.h"
#include "core/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/images_machine.h"
#include "test/core/scripted_disk.h"
#include "test/fakes/fake_cache_device.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class DetachTest : public testing::Test {
 protected:
  DetachTest() {
    EXPECT_THAT(machine_.Open(), IsOk());
    EXPECT_THAT(machine_.Attach("vm1", disk1_), IsOk());
    EXPECT_THAT(machine_.Attach("vm2", disk2_), IsOk());
  }
  Cache& cache() { return machine_.cache(); }

  // Of vm1: its dirty payload rots before it is written back.
  void LoseFirstBlock() {
    ASSERT_THAT(machine_.Write("vm1", 0, a_), IsOk());
    CachedImage& image = machine_.image("vm1");
    const auto place = ExplainPlace(image, ImageOffset(0));
    ASSERT_THAT(place, IsOk());
    machine_.device().FlipBit(
        image.core().table().geometry().position(place->position).value(), 1);
    ASSERT_THAT(machine_.Drain("vm1"), IsOk());
  }

  const std::string a_ = std::string(100'000, 'a');
  const std::string b_ = std::string(100'000, 'b');
  ScriptedDisk disk1_{8 * kMiB};
  ScriptedDisk disk2_{8 * kMiB};
  ScriptedDisk disk3_{8 * kMiB};
  ImagesMachine machine_;
};

TEST_F(DetachTest, RemovedImageLeavesNothingButItsBackingDevice) {
  const uint64_t unassigned = cache().unassigned_bytes();
  const uint32_t used = cache().status().segments_used;
  ASSERT_THAT(machine_.Write("vm1", 0, a_), IsOk());
  ASSERT_THAT(machine_.Write("vm2", 0, b_), IsOk());
  ASSERT_THAT(machine_.Drain("vm1"), IsOk());

  ASSERT_THAT(cache().Detach("vm1", DetachKind::kRemove), IsOk());

  EXPECT_EQ(disk1_.Content(0, a_.size()), a_);
  EXPECT_FALSE(machine_.is_known("vm1"));
  EXPECT_EQ(cache().Find("vm1"), nullptr);
  EXPECT_EQ(cache().unassigned_bytes(), unassigned + 10 * kMiB);
  EXPECT_EQ(cache().status().segments_used, used);  // less one, and vm2's
  EXPECT_EQ(machine_.Read("vm2", 0, b_.size()), b_);
  EXPECT_THAT(cache().Detach("vm1", DetachKind::kRemove),
              StatusIs(absl::StatusCode::kNotFound));
  ASSERT_THAT(cache().Close(), IsOk());
  ASSERT_THAT(machine_.Open(), IsOk());
  EXPECT_FALSE(machine_.is_known("vm1"));
  EXPECT_TRUE(machine_.is_known("vm2"));
}

TEST_F(DetachTest, NameAndSlotCanBeUsedAgain) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_THAT(machine_.Write("vm1", 0, a_), IsOk());
    ASSERT_THAT(machine_.Drain("vm1"), IsOk());
    ASSERT_THAT(cache().Detach("vm1", DetachKind::kRemove), IsOk());
    ScriptedDisk& disk = i % 2 == 0 ? disk3_ : disk1_;
    ASSERT_THAT(cache().Attach("vm1", disk.Open("disk " + std::to_string(i)),
                               {.cache_size = 8 * kMiB}),
                IsOk());
    EXPECT_EQ(cache().Find("vm1")->id(), ImageId(0));
    if (i == 0) {
      EXPECT_EQ(machine_.Read("vm1", 0, a_.size()),
                std::string(a_.size(), '\0'));
    }
    if (i == 2) {
      ASSERT_THAT(cache().Close(), IsOk());
      ASSERT_THAT(machine_.Open(), IsOk());
      ASSERT_THAT(cache().Attach("vm1", disk.Open("disk 2"), {}), IsOk());
    }
  }
}

TEST_F(DetachTest, DirtyImageIsServedOnUnlessToldWhatToDo) {
  ASSERT_THAT(machine_.Write("vm1", 0, a_), IsOk());

  EXPECT_THAT(cache().Detach("vm1", DetachKind::kRemove),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("vm1"), HasSubstr("100352 bytes"))));

  EXPECT_EQ(machine_.Read("vm1", 0, a_.size()), a_);
  EXPECT_THAT(machine_.Drain("vm1"), IsOk());
}

// Without their marks older data would be read, of which nobody is told.
TEST_F(DetachTest, LostRangesAreForgottenOnlyWhenTold) {
  LoseFirstBlock();
  const ImageStatus status = machine_.image("vm1").status();
  EXPECT_EQ(status.dirty_bytes, 0u);
  EXPECT_EQ(status.lost_bytes, kBlockSize);
  EXPECT_EQ(status.state, HealthState::kDegraded);

  EXPECT_THAT(cache().Detach("vm1", DetachKind::kRemove),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("vm1: 4096 bytes"), HasSubstr("lost"),
                             HasSubstr("--force"))));

  EXPECT_THAT(machine_.Read("vm1", 0, kBlockSize), HasSubstr("lost"));
  EXPECT_THAT(cache().Detach("vm1", DetachKind::kDiscard), IsOk());
  EXPECT_FALSE(machine_.is_known("vm1"));
}

TEST_F(DetachTest, KeptImageStillHasItsLostRanges) {
  LoseFirstBlock();
  ASSERT_THAT(cache().Detach("vm1", DetachKind::kKeepDirty), IsOk());
  machine_.CutPower(1);
  ASSERT_THAT(machine_.Open(), IsOk());
  ASSERT_THAT(machine_.Attach("vm1", disk1_), IsOk());

  EXPECT_EQ(machine_.image("vm1").status().lost_bytes, kBlockSize);
  EXPECT_EQ(machine_.image("vm1").status().state, HealthState::kDegraded);
  ASSERT_THAT(machine_.Drain("vm1"), IsOk());
  EXPECT_THAT(cache().Detach("vm1", DetachKind::kRemove),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("lost")));
}

TEST_F(DetachTest, WhatIsWrittenAgainIsNotLostAnyMore) {
  LoseFirstBlock();
  ASSERT_THAT(machine_.Write("vm1", 0, b_.substr(0, kBlockSize)), IsOk());
  ASSERT_THAT(machine_.Drain("vm1"), IsOk());

  EXPECT_EQ(machine_.image("vm1").status().lost_bytes, 0u);
  EXPECT_EQ(machine_.image("vm1").status().state, HealthState::kRunning);
  EXPECT_THAT(cache().Detach("vm1", DetachKind::kRemove), IsOk());
  EXPECT_EQ(disk1_.Content(0, kBlockSize), b_.substr(0, kBlockSize));
}

TEST_F(DetachTest, KeptImageComesBackWarmAndDirty) {
  ASSERT_THAT(machine_.Write("vm1", 0, a_), IsOk());
  const uint64_t unassigned = cache().unassigned_bytes();

  ASSERT_THAT(cache().Detach("vm1", DetachKind::kKeepDirty), IsOk());

  EXPECT_EQ(cache().Find("vm1"), nullptr);
  EXPECT_EQ(cache().unassigned_bytes(), unassigned);
  for (const ImageRecord& record : cache().KnownImages()) {
    EXPECT_EQ(record.state, record.name == "vm1" ? ImageState::kDetached
                                                 : ImageState::kAttached);
  }
  machine_.CutPower(1);
  ASSERT_THAT(machine_.Open(), IsOk());
  disk1_.ClearHistory();
  ASSERT_THAT(machine_.Attach("vm1", disk1_), IsOk());
  EXPECT_EQ(machine_.Read("vm1", 0, a_.size()), a_);
  EXPECT_THAT(disk1_.history(), Not(Contains(StartsWith("read"))));
  ASSERT_THAT(machine_.Drain("vm1"), IsOk());
  EXPECT_EQ(disk1_.Content(0, a_.size()), a_);
  EXPECT_EQ(cache().KnownImages()[0].state, ImageState::kAttached);
}

TEST_F(DetachTest, ComingAndGoingCostsNoSegment) {
  // More is written than the share holds, so what was left pinned or counted
  // twice would stop the writers.
  for (int round = 0; round < 6; ++round) {
    for (uint64_t at = 0; at < 8 * kMiB; at += kMiB) {
      ASSERT_THAT(machine_.Write("vm1", at, std::string(kMiB, 'a' + round)),
                  IsOk());
    }
    ASSERT_THAT(cache().Detach("vm1", DetachKind::kKeepDirty), IsOk());
    ASSERT_THAT(machine_.Attach("vm1", disk1_), IsOk());
    EXPECT_LE(cache().Find("vm1")->status().cache_used_segs, 10u);
  }
  ASSERT_THAT(machine_.Drain("vm1"), IsOk());
  EXPECT_EQ(disk1_.Content(7 * kMiB, kMiB), std::string(kMiB, 'f'));
}

TEST_F(DetachTest, DiscardedImageNeedNotBeClean) {
  ASSERT_THAT(machine_.Write("vm1", 0, a_), IsOk());
  ASSERT_THAT(machine_.Write("vm2", 0, b_), IsOk());
  EXPECT_THAT(cache().Detach("vm1", DetachKind::kDiscard), IsOk());
  EXPECT_THAT(cache().Detach("vm2", DetachKind::kKeepDirty), IsOk());
  EXPECT_THAT(cache().Detach("vm2", DetachKind::kKeepDirty),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("not attached")));

  EXPECT_THAT(cache().Detach("vm2", DetachKind::kDiscard), IsOk());

  EXPECT_THAT(cache().KnownImages(), IsEmpty());
  EXPECT_EQ(cache().status().segments_used, 0u);
}

TEST_F(DetachTest, DrainsThatWaitAreAnswered) {
  ASSERT_THAT(machine_.Write("vm1", 0, a_), IsOk());
  disk1_.set_automatic(false);
  absl::Status drained;
  cache().Find("vm1")->Drain([&](absl::Status status) { drained = status; });

  ASSERT_THAT(cache().Detach("vm1", DetachKind::kKeepDirty), IsOk());

  EXPECT_THAT(drained, StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(DetachTest, DrainsAreAnsweredWhenTheCacheEndsWithoutClose) {
  ASSERT_THAT(machine_.Write("vm1", 0, a_), IsOk());
  absl::Status drained;
  cache().Find("vm1")->Drain([&](absl::Status status) { drained = status; });

  machine_.CutPower(1);

  EXPECT_THAT(drained, StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(DetachTest, NothingChangesOnceTheCacheIsClosed) {
  ASSERT_THAT(cache().Close(), IsOk());
  const auto closed = StatusIs(absl::StatusCode::kUnavailable);
  EXPECT_THAT(cache().Detach("vm1", DetachKind::kKeepDirty), closed);
  EXPECT_THAT(machine_.Attach("vm3", disk1_), closed);
}

// Power cuts and faults: vm1, whose data is flushed, leaves in one of the ways;
// whatever happens on the way, it is there with all its data or not at all, as
// that way allows, and vm2 is as it was.
class DetachSweep : public testing::TestWithParam<DetachKind> {
 protected:
  DetachSweep() {
    EXPECT_THAT(start_.Open(), IsOk());
    EXPECT_THAT(start_.Attach("vm1", disk1_), IsOk());
    EXPECT_THAT(start_.Attach("vm2", disk2_), IsOk());
    EXPECT_THAT(start_.Write("vm1", 0, a_), IsOk());
    EXPECT_THAT(start_.Write("vm2", 0, b_), IsOk());
    if (GetParam() == DetachKind::kRemove) {
      EXPECT_THAT(start_.Drain("vm1"), IsOk());
    }
    EXPECT_THAT(start_.cache().Close(), IsOk());
  }

  // A machine in the state of the start, before the detach.
  std::unique_ptr<ImagesMachine> Prepare() {
    auto machine = std::make_unique<ImagesMachine>(start_);
    EXPECT_THAT(machine->Open(), IsOk());
    EXPECT_THAT(machine->Attach("vm1", disk1_), IsOk());
    EXPECT_THAT(machine->Attach("vm2", disk2_), IsOk());
    return machine;
  }

  void Judge(ImagesMachine& machine, bool acknowledged) {
    const auto checked = CheckCache(machine.device(), {});
    ASSERT_THAT(checked, IsOk());
    ASSERT_FALSE(checked->damaged()) << checked->findings[0].message;
    const bool known = machine.is_known("vm1");
    if (GetParam() == DetachKind::kKeepDirty) {
      ASSERT_TRUE(known);
    }
    if (acknowledged && GetParam() != DetachKind::kKeepDirty) {
      ASSERT_FALSE(known);
    }
    ASSERT_THAT(machine.Attach("vm2", disk2_), IsOk());
    ASSERT_EQ(machine.Read("vm2", 0, b_.size()), b_);
    ASSERT_THAT(machine.Attach("vm1", disk1_), IsOk());
    if (known) {
      ASSERT_EQ(machine.Read("vm1", 0, a_.size()), a_);
    }
    ASSERT_THAT(machine.Write("vm1", 0, b_), IsOk());
    ASSERT_THAT(machine.Flush("vm1"), IsOk());
    machine.CutPower(99);
    ASSERT_THAT(machine.Open(), IsOk());
    ASSERT_THAT(machine.Attach("vm1", disk1_), IsOk());
    ASSERT_EQ(machine.Read("vm1", 0, b_.size()), b_);
  }

  const std::string a_ = std::string(100'000, 'a');
  const std::string b_ = std::string(100'000, 'b');
  ScriptedDisk disk1_{8 * kMiB};
  ScriptedDisk disk2_{8 * kMiB};
  ImagesMachine start_;
};

TEST_P(DetachSweep, PowerCutAtEveryChange) {
  uint64_t cut = 0;
  for (bool finished = false; !finished; ++cut) {
    for (uint64_t seed = 0; seed < 4 && !finished; ++seed) {
      SCOPED_TRACE(testing::Message() << "cut " << cut << ", seed " << seed);
      auto machine = Prepare();
      machine->device().StopAt(cut);
      const absl::Status detached =
          machine->cache().Detach("vm1", GetParam());
      finished = !machine->device().stopped();
      machine->CutPower(seed);
      ASSERT_THAT(machine->Open(), IsOk());
      ASSERT_NO_FATAL_FAILURE(Judge(*machine, detached.ok()));
    }
  }
  EXPECT_GT(cut, 5u);
}

TEST_P(DetachSweep, FaultAtEveryCall) {
  for (const uint32_t kind : {FakeCacheDevice::kWrite, FakeCacheDevice::kRead,
                              FakeCacheDevice::kPersist}) {
    for (uint64_t index = 0;; ++index) {
      SCOPED_TRACE(testing::Message() << "kind " << kind << " " << index);
      auto machine = Prepare();
      machine->device().FailNth(kind, index);
      const absl::Status detached =
          machine->cache().Detach("vm1", GetParam());
      const bool fired = machine->device().fault_fired();
      EXPECT_TRUE(fired || detached.ok()) << detached;
      machine->CutPower(index);
      ASSERT_THAT(machine->Open(), IsOk());
      ASSERT_NO_FATAL_FAILURE(Judge(*machine, detached.ok()));
      if (!fired) break;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, DetachSweep,
                         testing::Values(DetachKind::kRemove,
                                         DetachKind::kKeepDirty,
                                         DetachKind::kDiscard));

}  // namespace
}  // namespace pcachefs
