// Proves that no two areas of a cache device overlap, on every size that is a
// border case; that a device grows without anything moving; and that a
// superblock's numbers are believed only if they follow from each other.

#include "meta/geometry.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/testing/random_seed.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;

constexpr auto kDataLoss = absl::StatusCode::kDataLoss;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

Geometry Make(uint64_t device_size, uint64_t segment_size = 0) {
  return *Geometry::ForDevice(device_size, segment_size);
}

// Sizes on both sides of every rule's border.
std::vector<Geometry> BorderGeometries() {
  std::vector<Geometry> geometries;
  for (const uint64_t size : {18 * kMiB, 64 * kMiB, 256 * kMiB + 4096,
                              kGiB - 512, kGiB, 10 * kGiB, kTiB + 12345}) {
    for (const uint64_t segment_size :
         {uint64_t{0}, kMiB, 4 * kMiB, 64 * kMiB}) {
      const auto geometry = Geometry::ForDevice(size, segment_size);
      // Millions of areas would prove nothing more.
      if (!geometry.ok() || geometry->segment_count() > 20000) continue;
      geometries.push_back(*geometry);
    }
  }
  return geometries;
}

struct Area {
  uint64_t begin;
  uint64_t size;
};

std::vector<Area> AllAreas(const Geometry& geometry) {
  std::vector<Area> areas;
  for (const int slot : {0, 1}) {
    areas.push_back({geometry.superblock(slot).value(), 4096});
    areas.push_back({geometry.cache_info(slot).value(), 4096});
    for (uint32_t i = 0; i < geometry.image_slots(); ++i) {
      areas.push_back({geometry.image_record(ImageId(i), slot).value(), 4096});
      areas.push_back({geometry.log_tails(ImageId(i), slot).value(), 4096});
    }
    for (uint32_t i = 0; i < geometry.segment_capacity(); ++i) {
      areas.push_back({geometry.segment_record(SegmentId(i), slot).value(),
                       kSegmentRecordSize});
    }
  }
  for (uint32_t i = 0; i < geometry.segment_count(); ++i) {
    areas.push_back(
        {geometry.position({SegmentId(i), SegmentOffset(0)}).value(),
         geometry.segment_size()});
  }
  return areas;
}

TEST(Geometry, NoAreasOverlapOrLeaveTheDevice) {
  for (const Geometry& geometry : BorderGeometries()) {
    std::vector<Area> areas = AllAreas(geometry);
    std::sort(areas.begin(), areas.end(),
              [](const Area& a, const Area& b) { return a.begin < b.begin; });

    uint64_t end = 0;
    for (const Area& area : areas) {
      ASSERT_GE(area.begin, end) << "device size " << geometry.device_size();
      end = area.begin + area.size;
    }
    EXPECT_LE(end, geometry.device_size());
  }
}

// Ancestor bugs B1 and B2: slot 1 computed in other units than slot 0.
TEST(Geometry, SlotsAreAsFarApartAsTheFormatSays) {
  const Geometry geometry = Make(10 * kGiB);
  const uint64_t stride = geometry.stored().segment_table_stride;

  EXPECT_EQ(geometry.superblock(1) - geometry.superblock(0), 4096u);
  EXPECT_EQ(SuperblockOffset(1), geometry.superblock(1));
  EXPECT_EQ(geometry.cache_info(0).value(), 8192u);
  EXPECT_EQ(geometry.cache_info(1).value(), 12288u);
  EXPECT_EQ(geometry.image_record(ImageId(0), 0).value(), 16384u);
  for (uint32_t i = 0; i < geometry.image_slots(); ++i) {
    const uint64_t base = 16384 + i * 16384;
    EXPECT_EQ(geometry.image_record(ImageId(i), 0).value(), base);
    EXPECT_EQ(geometry.image_record(ImageId(i), 1).value(), base + 4096);
    EXPECT_EQ(geometry.log_tails(ImageId(i), 0).value(), base + 8192);
    EXPECT_EQ(geometry.log_tails(ImageId(i), 1).value(), base + 12288);
  }
  for (uint32_t i = 0; i < geometry.segment_capacity(); ++i) {
    const MediaOffset slot0 = geometry.segment_record(SegmentId(i), 0);
    EXPECT_EQ(slot0, geometry.segment_table(0) + i * 64);
    EXPECT_EQ(geometry.segment_record(SegmentId(i), 1), slot0 + stride);
  }
}

TEST(Geometry, SmallAndLargeDevicesDifferAtOneGibibyte) {
  const Geometry small = Make(kGiB - 1);
  const Geometry large = Make(kGiB);

  EXPECT_EQ(small.image_slots(), 64u);
  EXPECT_EQ(large.image_slots(), 256u);
  EXPECT_TRUE(IsAligned(small.metadata_bytes(), 4096));
  EXPECT_TRUE(IsAligned(large.metadata_bytes(), kMiB));
}

TEST(Geometry, SegmentSizeIsChosenForAtLeastSixtyFourSegments) {
  EXPECT_EQ(Make(10 * kGiB).segment_size(), 16 * kMiB);
  EXPECT_EQ(Make(kGiB + 64 * kMiB).segment_size(), 16 * kMiB);
  EXPECT_EQ(Make(kGiB).segment_size(), 8 * kMiB);
  EXPECT_EQ(Make(256 * kMiB).segment_size(), 2 * kMiB);
  EXPECT_EQ(Make(32 * kMiB).segment_size(), kMiB);
}

TEST(Geometry, CapacityIsSixteenTimesTheCountInWholeBlocks) {
  for (const Geometry& geometry : BorderGeometries()) {
    const uint32_t capacity = geometry.segment_capacity();

    EXPECT_TRUE(IsAligned(capacity, 64));
    EXPECT_GE(capacity, 16 * geometry.segment_count());
    EXPECT_LT(capacity, 16 * geometry.segment_count() + 64);
    EXPECT_EQ(geometry.stored().segment_table_stride, capacity * 64u);
  }
}

TEST(Geometry, NoSegmentIsWasted) {
  std::mt19937_64 random(RandomSeed());
  for (int i = 0; i < 2000; ++i) {
    const uint64_t size = 20 * kMiB + random() % (20 * kGiB);
    const uint64_t segment_size = kMiB << random() % 5;
    const auto geometry = Geometry::ForDevice(size, segment_size);
    if (!geometry.ok()) continue;

    const uint64_t unused = size - geometry->metadata_bytes() -
                            geometry->segment_count() * segment_size;

    // One more segment might have fitted, had it not needed a larger table.
    EXPECT_LT(unused, segment_size + kMiB) << size << ' ' << segment_size;
  }
}

TEST(Geometry, SmallestDeviceHasSixteenSegments) {
  // Superblock and cache info, image table, twice four blocks of table.
  const uint64_t metadata = 16384 + 64 * 16384 + 2 * 4 * 4096;
  const uint64_t smallest = metadata + 16 * kMiB;

  EXPECT_EQ(Make(smallest).segment_count(), 16u);
  EXPECT_EQ(Make(smallest).metadata_bytes(), metadata);
  EXPECT_THAT(Geometry::ForDevice(smallest - 1, 0),
              StatusIs(kInvalid,
                       "cache device: size: got 17874943 bytes, which hold "
                       "15 segments of 1048576 bytes, want at least 16: "
                       "17874944 bytes or more"));
  EXPECT_THAT(Geometry::ForDevice(0, 0), StatusIs(kInvalid));
}

TEST(Geometry, RefusalOfASmallDeviceNamesTheSmallestForItsSegmentSize) {
  for (uint64_t segment = kMinSegmentSize; segment <= kMaxSegmentSize;
       segment *= 2) {
    const std::string message(
        Geometry::ForDevice(kMiB, segment).status().message());
    const size_t colon = message.rfind(": ");
    ASSERT_NE(colon, std::string::npos) << message;
    const uint64_t smallest = std::stoull(message.substr(colon + 2));
    EXPECT_THAT(Geometry::ForDevice(smallest, segment), IsOk());
    EXPECT_THAT(Geometry::ForDevice(smallest - 1, segment),
                StatusIs(kInvalid));
  }
}

TEST(Geometry, SegmentSizeIsAPowerOfTwoInRange) {
  for (const uint64_t size :
       {kMiB / 2, 3 * kMiB, 128 * kMiB, uint64_t{1}, UINT64_MAX,
        (uint64_t{1} << 32) + kMiB, uint64_t{1} << 32}) {
    EXPECT_THAT(Geometry::ForDevice(10 * kGiB, size),
                StatusIs(kInvalid, HasSubstr("segment size: got")))
        << size;
  }
}

TEST(Geometry, HugeDevicesHaveTheMostSegments) {
  const Geometry geometry = Make(uint64_t{1} << 60, 16 * kMiB);

  EXPECT_EQ(geometry.segment_count(), 1u << 24);
  EXPECT_EQ(geometry.segment_capacity(), 1u << 24);
  EXPECT_THAT(Geometry::FromStored(geometry.stored()), IsOk());
  EXPECT_THAT(Geometry::ForDevice(UINT64_MAX, 0), StatusIs(kInvalid));
}

TEST(Geometry, StoredNumbersMakeTheSameLayout) {
  for (const Geometry& geometry : BorderGeometries()) {
    const auto again = Geometry::FromStored(geometry.stored());

    ASSERT_THAT(again, IsOk());
    EXPECT_EQ(again->metadata_bytes(), geometry.metadata_bytes());
    EXPECT_EQ(again->segment_count(), geometry.segment_count());
  }
}

TEST(Geometry, GrowthAddsSegmentsAndMovesNothing) {
  // From below 1 GiB to above it: the layout stays that of a small device.
  const Geometry before = Make(512 * kMiB, 4 * kMiB);

  const auto after = before.Grown(4 * kGiB);

  ASSERT_THAT(after, IsOk());
  EXPECT_EQ(after->device_size(), 4 * kGiB);
  EXPECT_EQ(after->segment_count(),
            (4 * kGiB - before.metadata_bytes()) / (4 * kMiB));
  EXPECT_EQ(after->segment_capacity(), before.segment_capacity());
  EXPECT_EQ(after->image_slots(), before.image_slots());
  for (const int slot : {0, 1}) {
    EXPECT_EQ(after->segment_table(slot), before.segment_table(slot));
  }
  EXPECT_EQ(after->metadata_bytes(), before.metadata_bytes());
  EXPECT_THAT(Geometry::FromStored(after->stored()), IsOk());
}

TEST(Geometry, GrowthEndsAtTheCapacity) {
  const Geometry before = Make(512 * kMiB, 4 * kMiB);

  const auto after = before.Grown(kTiB);

  ASSERT_THAT(after, IsOk());
  EXPECT_EQ(after->segment_count(), before.segment_capacity());
  EXPECT_THAT(Geometry::FromStored(after->stored()), IsOk());
}

TEST(Geometry, ADeviceOfTheSameSizeHasNotGrown) {
  for (const Geometry& geometry : BorderGeometries()) {
    const auto after = geometry.Grown(geometry.device_size());

    ASSERT_THAT(after, IsOk());
    EXPECT_EQ(after->segment_count(), geometry.segment_count());
  }
}

TEST(Geometry, ASmallerDeviceIsRefused) {
  EXPECT_THAT(Make(kGiB).Grown(kGiB - 1),
              StatusIs(kInvalid, HasSubstr("got 1073741823 bytes, want")));
}

// Ancestor bugs B8 and B9: numbers of the media taken as they are.
TEST(Geometry, StoredNumbersThatContradictTheFormatAreDamage) {
  using Stored = Geometry::Stored;
  const auto error = [](auto change) {
    Stored stored = Make(2 * kGiB).stored();
    change(stored);
    return Geometry::FromStored(stored).status();
  };
  const auto damage = [](const char* text) {
    return StatusIs(kDataLoss, HasSubstr(text));
  };

  EXPECT_THAT(error([](Stored&) {}), IsOk());
  EXPECT_THAT(error([](Stored& s) { s.segment_size = 0; }),
              damage("superblock: segment size: got 0, want"));
  EXPECT_THAT(error([](Stored& s) { s.segment_size += 4096; }),
              damage("segment size"));
  EXPECT_THAT(error([](Stored& s) { s.segment_size = 1u << 31; }),
              damage("segment size"));
  EXPECT_THAT(error([](Stored& s) { s.segment_count = 15; }),
              damage("segment count: got 15, want 16 to 127"));
  EXPECT_THAT(error([](Stored& s) { ++s.segment_count; }),
              damage("segment count: got 128"));
  EXPECT_THAT(error([](Stored& s) { s.segment_count = UINT32_MAX; }),
              damage("segment count"));
  EXPECT_THAT(error([](Stored& s) { s.segment_capacity = UINT32_MAX; }),
              damage("segment capacity"));
  EXPECT_THAT(error([](Stored& s) { s.segment_capacity += 1; }),
              damage("segment capacity"));
  EXPECT_THAT(error([](Stored& s) { s.segment_capacity = 0; }),
              damage("segment table stride"));
  EXPECT_THAT(error([](Stored& s) { s.image_slots = 255; }),
              damage("image slots: got 255, want 64 or 256"));
  EXPECT_THAT(error([](Stored& s) { s.image_slots = 64; }),
              damage("segment table offset"));
  EXPECT_THAT(error([](Stored& s) { s.segment_table_offset += 4096; }),
              damage("segment table offset"));
  EXPECT_THAT(error([](Stored& s) { s.segment_table_stride += 4096; }),
              damage("segment table stride"));
  EXPECT_THAT(error([](Stored& s) { s.segments_offset += kMiB; }),
              damage("segments offset"));
  EXPECT_THAT(error([](Stored& s) { s.segments_offset = 0; }),
              damage("segments offset"));
  EXPECT_THAT(error([](Stored& s) { s.device_size = kGiB - 1; }),
              damage("device size"));
  EXPECT_THAT(error([](Stored& s) { s.device_size = kGiB; }),
              damage("segment count"));
  EXPECT_THAT(error([](Stored& s) { s.device_size = UINT64_MAX; }),
              damage("device size"));
}

TEST(Geometry, PositionsAreBytesOfTheDevice) {
  const Geometry geometry = Make(10 * kTiB, 64 * kMiB);
  const uint32_t last = geometry.segment_count() - 1;

  const MediaOffset position =
      geometry.position({SegmentId(last), SegmentOffset(4096)});

  EXPECT_EQ(position.value(),
            geometry.metadata_bytes() + uint64_t{last} * 64 * kMiB + 4096);
}

TEST(GeometryDeathTest, AnIndexBeyondTheDeviceEndsTheProcess) {
  const Geometry geometry = Make(kGiB);

  EXPECT_DEATH(geometry.image_record(ImageId(256), 0), "");
  EXPECT_DEATH(geometry.log_tails(ImageId(0), 2), "");
  EXPECT_DEATH(
      geometry.segment_record(SegmentId(geometry.segment_capacity()), 0), "");
  EXPECT_DEATH(geometry.position({SegmentId(geometry.segment_count()), {}}),
               "");
}

}  // namespace
}  // namespace pcachefs
