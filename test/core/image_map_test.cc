// What people are told of an image is what readers of it get.

#include "core/image_map.h"

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using Kind = PlaceInImage::Kind;

class ImageMapTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_THAT(machine_.Start(), IsOk()); }

  PlaceInImage At(uint64_t offset) {
    auto place = ExplainPlace(machine_.image(), ImageOffset(offset));
    EXPECT_THAT(place, IsOk());
    return place.value_or(PlaceInImage());
  }

  CoreMachine machine_;
};

TEST_F(ImageMapTest, AnEmptyCacheHasNothing) {
  const PlaceInImage place = At(5 * kMiB + 7);
  EXPECT_EQ(place.kind, Kind::kBacking);
  // The stripe, beyond which another shard knows.
  EXPECT_EQ(place.range, (ImageRange{ImageOffset(4 * kMiB), 4 * kMiB}));
}

TEST_F(ImageMapTest, AWriteIsDirtyUntilItIsDrained) {
  ASSERT_THAT(machine_.Write(kMiB, std::string(8192, 'a')), IsOk());
  PlaceInImage place = At(kMiB + 5000);
  EXPECT_EQ(place.kind, Kind::kCached);
  EXPECT_EQ(place.range, (ImageRange{ImageOffset(kMiB), 8192}));
  EXPECT_TRUE(place.is_dirty);
  EXPECT_THAT(place.checksum, IsOk());

  ASSERT_THAT(machine_.Drain(), IsOk());
  place = At(kMiB + 5000);
  EXPECT_EQ(place.kind, Kind::kCached);
  EXPECT_FALSE(place.is_dirty);
}

TEST_F(ImageMapTest, KeySetAgeAndHitsAreTold) {
  ASSERT_THAT(machine_.Write(0, std::string(4096, 'a')), IsOk());
  ASSERT_THAT(machine_.Write(kMiB, std::string(8192, 'b')), IsOk());
  const SequenceNumber last = machine_.core().log().last();
  machine_.disk().set_automatic(false);  // stays dirty
  ASSERT_TRUE(machine_.RunIdle());
  machine_.clock().Advance(absl::Seconds(20));
  PlaceInImage place = At(kMiB + 4096);
  ASSERT_TRUE(place.key_set.has_value());
  EXPECT_EQ(*place.key_set, last);
  EXPECT_EQ(place.age, absl::Seconds(20));
  EXPECT_FALSE(place.is_hit);

  ASSERT_THAT(machine_.Read(kMiB + 4096, 512), IsOk());
  machine_.disk().set_automatic(true);
  machine_.disk().CompleteAll();
  ASSERT_THAT(machine_.Drain(), IsOk());
  place = At(kMiB + 4096);
  EXPECT_TRUE(place.is_hit);
  EXPECT_FALSE(place.age.has_value());
  EXPECT_FALSE(At(kMiB).is_hit);
  EXPECT_EQ(DrawImageMap(machine_.image(), 8).cells[1].hot_bytes, 4096u);
}

TEST_F(ImageMapTest, TheGapBetweenTwoPiecesIsOne) {
  ASSERT_THAT(machine_.Write(0, std::string(4096, 'a')), IsOk());
  ASSERT_THAT(machine_.Write(12288, std::string(4096, 'b')), IsOk());
  const PlaceInImage place = At(8192);
  EXPECT_EQ(place.kind, Kind::kBacking);
  EXPECT_EQ(place.range, (ImageRange{ImageOffset(4096), 8192}));
}

TEST_F(ImageMapTest, ZeroesAndDamageAreTold) {
  ASSERT_THAT(machine_.Zero(0, 4096), IsOk());
  EXPECT_EQ(At(100).kind, Kind::kZero);

  ASSERT_THAT(machine_.Write(8192, std::string(4096, 'a')), IsOk());
  machine_.Corrupt(machine_.PlaceOf(8192));
  EXPECT_THAT(At(8192).checksum, StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(ImageMapTest, BeyondTheEndIsRefused) {
  EXPECT_THAT(ExplainPlace(machine_.image(), ImageOffset(8 * kMiB)),
              StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_F(ImageMapTest, CellsAddUp) {
  ASSERT_THAT(machine_.Write(kMiB - 4096, std::string(8192, 'a')), IsOk());
  ASSERT_THAT(machine_.Drain(), IsOk());
  ASSERT_THAT(machine_.Write(5 * kMiB, std::string(512, 'b')), IsOk());
  ASSERT_THAT(machine_.Zero(6 * kMiB, 4096), IsOk());

  const ImageMap map = DrawImageMap(machine_.image(), 8);
  EXPECT_EQ(map.cell_size, kMiB);
  ASSERT_EQ(map.cells.size(), 8u);
  EXPECT_EQ(map.cells[0].cached_bytes, 4096u);
  EXPECT_EQ(map.cells[0].dirty_bytes, 0u);
  EXPECT_EQ(map.cells[1].cached_bytes, 4096u);
  EXPECT_EQ(map.cells[5].cached_bytes, 512u);
  EXPECT_EQ(map.cells[5].dirty_bytes, 512u);
  EXPECT_EQ(map.cells[6].zero_bytes, 4096u);
  EXPECT_EQ(map.cells[7].cached_bytes, 0u);
}

TEST_F(ImageMapTest, AnyNumberOfCells) {
  EXPECT_EQ(DrawImageMap(machine_.image(), 0).cells.size(), 1u);
  EXPECT_EQ(DrawImageMap(machine_.image(), 1 << 30).cells.size(), 2048u);
  EXPECT_LE(DrawImageMap(machine_.image(), 7).cells.size(), 7u);
}

}  // namespace
}  // namespace pcachefs
