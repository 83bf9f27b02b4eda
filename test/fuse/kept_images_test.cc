// Opens and releases count once, whatever the daemon dies in; a slot's next
// image begins anew.

#include "fuse/kept_images.h"

#include <memory>

#include "absl/time/time.h"
#include "fuse/failover_state.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/types.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

const ImageId kImage(3);
constexpr uint64_t kTag = 77;

class KeptImagesTest : public testing::Test {
 protected:
  void SetUp() override {
    auto state = FailoverState::Create();
    ASSERT_THAT(state, IsOk());
    state_ = *std::move(state);
  }
  SharedImages& shared() { return state_->shared().images; }

  std::unique_ptr<FailoverState> state_;
};

TEST_F(KeptImagesTest, ASuccessorKnowsWhatIsOpen) {
  {
    KeptImages images(shared());
    EXPECT_EQ(images.Adopt(kImage, kTag).open_count, 0);
    EXPECT_TRUE(images.CountOpen(kImage, 2, 1));
    EXPECT_TRUE(images.CountOpen(kImage, 4, 1));
    EXPECT_TRUE(images.CountOpen(kImage, 6, -1));
  }
  KeptImages images(shared());
  EXPECT_EQ(images.Adopt(kImage, kTag).open_count, 1);
  EXPECT_EQ(images.Adopt(ImageId(4), kTag).open_count, 0);
}

TEST_F(KeptImagesTest, WhatIsSentAgainCountsOnce) {
  KeptImages(shared()).Adopt(kImage, kTag);
  EXPECT_TRUE(KeptImages(shared()).CountOpen(kImage, 2, 1));
  EXPECT_FALSE(KeptImages(shared()).CountOpen(kImage, 2, 1));
  EXPECT_TRUE(KeptImages(shared()).CountOpen(kImage, 4, -1));
  EXPECT_FALSE(KeptImages(shared()).CountOpen(kImage, 4, -1));
  EXPECT_EQ(KeptImages(shared()).Adopt(kImage, kTag).open_count, 0);
}

// The daemon dies behind each store of a change.
TEST_F(KeptImagesTest, AnInterruptedChangeIsCarriedOut) {
  KeptImages(shared()).Adopt(kImage, kTag);
  KeptImages(shared()).CountOpen(kImage, 2, 1);
  for (int step = 0; step < 4; ++step) {
    SharedImages::Change& change = shared().change;
    change.entry = kImage.value();
    change.open_count = 2;
    change.unique = 4;
    change.place = 1;
    change.is_valid = true;
    shared().entries[kImage.value()].open_count = step >= 1 ? 2 : 1;
    shared().counted[1] = step >= 2 ? 4 : 0;
    shared().counted_count = step >= 3 ? 2 : 1;

    KeptImages images(shared());
    EXPECT_FALSE(images.CountOpen(kImage, 4, 1)) << step;
    EXPECT_EQ(images.Adopt(kImage, kTag).open_count, 2) << step;
  }
}

TEST_F(KeptImagesTest, AnotherImageInTheSlotBeginsAnew) {
  KeptImages images(shared());
  images.Adopt(kImage, kTag);
  images.CountOpen(kImage, 2, 1);
  images.KeepOwnership(kImage, {.permissions = 0640, .uid = 12, .gid = 34});
  const KeptImages::Kept same = images.Adopt(kImage, kTag);
  ASSERT_TRUE(same.ownership.has_value());
  EXPECT_EQ(same.ownership->permissions, 0640u);
  EXPECT_EQ(same.ownership->uid, 12u);
  EXPECT_EQ(same.ownership->gid, 34u);

  const KeptImages::Kept other = images.Adopt(kImage, kTag + 1);
  EXPECT_EQ(other.open_count, 0);
  EXPECT_FALSE(other.ownership.has_value());
}

}  // namespace
}  // namespace pcachefs
