// Proves how identities look as text and as numbers.

#include "meta/types.h"

#include <cstdint>

#include "absl/container/flat_hash_set.h"
#include "gtest/gtest.h"

namespace pcachefs {
namespace {

Uuid CountingUuid() {
  Uuid uuid;
  for (uint8_t i = 0; i < 16; ++i) uuid.bytes[i] = 0xa0 + i;
  return uuid;
}

TEST(Uuid, IsWrittenInFiveGroupsOfLowerCaseDigits) {
  EXPECT_EQ(CountingUuid().ToString(), "a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf");
  EXPECT_EQ(Uuid{}.ToString(), "00000000-0000-0000-0000-000000000000");
}

TEST(Uuid, TagIsItsFirstEightBytesAsANumber) {
  EXPECT_EQ(CountingUuid().tag(), ImageTag(0xa7a6a5a4a3a2a1a0));
}

TEST(Uuid, OnlyZerosAreNil) {
  EXPECT_TRUE(Uuid{}.is_nil());
  EXPECT_FALSE(CountingUuid().is_nil());
}

TEST(StrongNumber, CanBeComparedAndHashed) {
  const absl::flat_hash_set<SegmentId> segments = {SegmentId(1), SegmentId(2),
                                                   SegmentId(1)};
  const absl::flat_hash_set<SequenceNumber> sequences = {SequenceNumber(5)};

  EXPECT_EQ(segments.size(), 2u);
  EXPECT_TRUE(sequences.contains(SequenceNumber(5)));
  EXPECT_LT(Generation(1), Generation(2));
}

TEST(ImageRange, KnowsItsNeighbours) {
  const ImageRange range{ImageOffset(4096), 4096};

  EXPECT_TRUE(range.Overlaps({ImageOffset(8191), 1}));
  EXPECT_FALSE(range.Overlaps({ImageOffset(8192), 1}));
  EXPECT_FALSE(range.Overlaps({ImageOffset(0), 4096}));
  EXPECT_TRUE(range.Contains({ImageOffset(4096), 4096}));
  EXPECT_FALSE(range.Contains({ImageOffset(4096), 4097}));
}

}  // namespace
}  // namespace pcachefs
