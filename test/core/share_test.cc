// Proves who gets how much of the cache, while it is in use.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "core/image_space.h"
#include "core/options.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/core/images_machine.h"
#include "test/core/scripted_disk.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class ShareTest : public testing::Test {
 protected:
  ShareTest() {
    EXPECT_THAT(machine_.Open(), IsOk());
    EXPECT_THAT(machine_.Attach("vm1", disk1_, 20), IsOk());
    EXPECT_THAT(machine_.Attach("vm2", disk2_, 10), IsOk());
  }
  Cache& cache() { return machine_.cache(); }
  uint32_t share(const std::string& name) {
    return machine_.image(name).status().cache_segs;
  }
  uint32_t used(const std::string& name) {
    return machine_.image(name).status().cache_used_segs;
  }
  uint64_t unassigned() { return cache().unassigned_bytes() / kMiB; }
  // Writes through the whole image, some times over.
  void Fill(const std::string& name, char first) {
    for (int round = 0; round < 3; ++round) {
      for (uint64_t at = 0; at < 16 * kMiB; at += kMiB) {
        ASSERT_THAT(
            machine_.Write(name, at,
                           std::string(kMiB, static_cast<char>(first + round))),
            IsOk());
      }
    }
  }

  ScriptedDisk disk1_{16 * kMiB};
  ScriptedDisk disk2_{16 * kMiB};
  ScriptedDisk disk3_{16 * kMiB};
  ImagesMachine machine_;
};

TEST_F(ShareTest, GrowsByWhatNobodyHas) {
  const uint64_t left = unassigned();

  EXPECT_THAT(cache().SetShare("vm2", (10 + left + 1) * kMiB),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("vm2"), HasSubstr("image_cache_size"))));
  EXPECT_EQ(share("vm2"), 10u);
  EXPECT_THAT(cache().SetShare("vm2", (10 + left) * kMiB - 1), IsOk());

  EXPECT_EQ(share("vm2"), 10 + left);
  EXPECT_EQ(unassigned(), 0u);
  EXPECT_THAT(cache().SetShare("vm3", 10 * kMiB),
              StatusIs(absl::StatusCode::kNotFound));
  machine_.CutPower(1);
  ASSERT_THAT(machine_.Open(), IsOk());
  ASSERT_THAT(machine_.Attach("vm2", disk2_), IsOk());
  EXPECT_EQ(share("vm2"), 10 + left);
}

TEST_F(ShareTest, SmallestShareWorks) {
  EXPECT_THAT(cache().SetShare("vm1", (kMinShare - 1) * kMiB),
              StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_NO_FATAL_FAILURE(Fill("vm1", 'a'));

  ASSERT_THAT(cache().SetShare("vm1", kMinShare * kMiB), IsOk());

  ASSERT_NO_FATAL_FAILURE(Fill("vm1", 'k'));
  EXPECT_LE(used("vm1"), kMinShare);
  EXPECT_EQ(machine_.Read("vm1", 15 * kMiB, kMiB), std::string(kMiB, 'm'));
}

TEST_F(ShareTest, WhatAnImageStillUsesIsPromisedToNobody) {
  ASSERT_NO_FATAL_FAILURE(Fill("vm1", 'a'));
  const uint64_t left = unassigned();
  const uint32_t before = used("vm1");
  ASSERT_GT(before, 10u);

  ASSERT_THAT(cache().SetShare("vm1", kMinShare * kMiB), IsOk());

  EXPECT_EQ(unassigned(), left + 20 - before);
  machine_.RunIdle();
  EXPECT_LE(used("vm1"), kMinShare);
  EXPECT_EQ(unassigned(), left + 20 - kMinShare);
  ASSERT_THAT(machine_.Attach("vm3", disk3_, left + 20 - kMinShare), IsOk());
  ASSERT_NO_FATAL_FAILURE(Fill("vm3", 'a'));
}

TEST_F(ShareTest, DirtyImageThatBecameSmallerSurvivesAPowerCut) {
  disk1_.Fail(ScriptedDisk::Operation::kWrite,
              absl::UnavailableError("unplugged"));
  for (uint64_t at = 0; at < 15 * kMiB; at += kMiB) {
    ASSERT_THAT(machine_.Write("vm1", at, std::string(kMiB, 'x')), IsOk());
  }
  ASSERT_THAT(machine_.Flush("vm1"), IsOk());
  ASSERT_THAT(cache().SetShare("vm1", kMinShare * kMiB), IsOk());

  machine_.CutPower(3);
  ASSERT_THAT(machine_.Open(), IsOk());
  ASSERT_THAT(machine_.Attach("vm1", disk1_), IsOk());

  EXPECT_EQ(share("vm1"), kMinShare);
  EXPECT_GT(used("vm1"), kMinShare);
  EXPECT_EQ(machine_.Read("vm1", 14 * kMiB, kMiB), std::string(kMiB, 'x'));
  disk1_.Fail(ScriptedDisk::Operation::kWrite, absl::OkStatus());
  ASSERT_THAT(machine_.Drain("vm1"), IsOk());
  EXPECT_EQ(disk1_.Content(14 * kMiB, kMiB), std::string(kMiB, 'x'));
  ASSERT_NO_FATAL_FAILURE(Fill("vm1", 'a'));
  EXPECT_LE(used("vm1"), kMinShare);
}

TEST_F(ShareTest, DefaultSharesMakeRoomForAnotherImage) {
  ImagesMachine machine;
  ASSERT_THAT(machine.Open(), IsOk());
  ASSERT_THAT(machine.Attach("a", disk1_, 0), IsOk());
  const uint32_t all = machine.cache().status().segments;
  EXPECT_EQ(machine.image("a").status().cache_segs, all);
  for (uint64_t at = 0; at < 16 * kMiB; at += kMiB) {
    ASSERT_THAT(machine.Write("a", at, std::string(kMiB, 'a')), IsOk());
  }

  // Else it would take the commit timer's time, which stands still.
  ASSERT_THAT(machine.Drain("a"), IsOk());

  ASSERT_THAT(machine.Attach("b", disk2_, 0), IsOk());
  EXPECT_EQ(machine.image("a").status().cache_segs, all - all / 2);
  EXPECT_EQ(machine.image("b").status().cache_segs, all / 2);
  // Also for one that says what it wants; but not whose share was asked for.
  ASSERT_THAT(machine.Attach("c", disk3_, 10), IsOk());
  EXPECT_EQ(machine.image("c").status().cache_segs, 10u);
  EXPECT_EQ(machine.image("a").status().cache_segs, (all - 10) / 2);
  EXPECT_LE(machine.image("a").status().cache_used_segs, (all - 10) / 2);
  ASSERT_THAT(machine.cache().SetShare("a", (all - 10) / 2 * kMiB), IsOk());
  ASSERT_THAT(machine.cache().SetShare("b", 10 * kMiB), IsOk());
  ScriptedDisk disk4(8 * kMiB);
  EXPECT_THAT(machine.cache().Attach("d", disk4.Open("four"),
                                     {.cache_size = 20 * kMiB}),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(machine.Read("a", 15 * kMiB, kMiB), std::string(kMiB, 'a'));
}

TEST_F(ShareTest, OfAnImageThatIsNotServed) {
  const uint64_t left = unassigned();
  ASSERT_THAT(cache().Detach("vm1", DetachKind::kKeepDirty), IsOk());
  ASSERT_THAT(cache().SetShare("vm1", 8 * kMiB), IsOk());
  EXPECT_EQ(unassigned(), left + 12);
  ASSERT_THAT(machine_.Attach("vm1", disk1_), IsOk());
  EXPECT_EQ(share("vm1"), 8u);
}

TEST_F(ShareTest, SharesSurvivePowerCutsAtEveryChange) {
  ASSERT_THAT(cache().Close(), IsOk());
  for (uint64_t cut = 0; cut < 6; ++cut) {
    for (uint64_t seed = 0; seed < 6; ++seed) {
      ImagesMachine machine(machine_);
      ASSERT_THAT(machine.Open(), IsOk());
      ASSERT_THAT(machine.Attach("vm1", disk1_), IsOk());
      machine.device().StopAt(cut);
      const absl::Status set = machine.cache().SetShare("vm1", 8 * kMiB);
      machine.CutPower(seed);
      ASSERT_THAT(machine.Open(), IsOk());
      ASSERT_THAT(machine.Attach("vm1", disk1_), IsOk());
      const uint32_t share = machine.image("vm1").status().cache_segs;
      if (set.ok()) {
        EXPECT_EQ(share, 8u);
      } else {
        EXPECT_TRUE(share == 8 || share == 20) << share;
      }
    }
  }
}

// 64 images at once, each with the smallest share, all of them busy.
TEST(ManyImages, SixtyFourOnOneCache) {
  constexpr int kImages = 64;
  std::vector<std::unique_ptr<ScriptedDisk>> disks;
  ImagesMachine machine({.size = (kImages * kMinShare + 8) * kMiB});
  ASSERT_THAT(machine.Open(), IsOk());
  const auto name = [](int i) { return "vm" + std::to_string(i); };
  for (int i = 0; i < kImages; ++i) {
    disks.push_back(std::make_unique<ScriptedDisk>(8 * kMiB));
    ASSERT_THAT(machine.Attach(name(i), *disks[i], kMinShare), IsOk()) << i;
  }
  for (uint64_t at = 0; at < 8 * kMiB; at += kMiB) {
    for (int i = 0; i < kImages; ++i) {
      ASSERT_THAT(machine.Write(name(i), at,
                                std::string(kMiB, static_cast<char>(i + 1))),
                  IsOk());
    }
  }
  ASSERT_THAT(machine.cache().Close(), IsOk());
  ASSERT_THAT(machine.Open(), IsOk());
  for (int i = 0; i < kImages; ++i) {
    ASSERT_THAT(machine.Attach(name(i), *disks[i]), IsOk()) << i;
    ASSERT_EQ(machine.Read(name(i), 7 * kMiB, 4096),
              std::string(4096, static_cast<char>(i + 1)));
    ASSERT_THAT(machine.Drain(name(i)), IsOk());
    EXPECT_EQ(disks[i]->Content(0, 8 * kMiB),
              std::string(8 * kMiB, static_cast<char>(i + 1)));
  }
}

}  // namespace
}  // namespace pcachefs
