// Proves on random sets that parsing yields exactly what was built, and on
// random damage that nothing but a valid set is ever taken for one.

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/crc32c.h"
#include "meta/endian.h"
#include "meta/geometry.h"
#include "meta/key_set.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/testing/random_seed.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr uint64_t kImageSize = 100 * kTiB;

struct KeyWithCrcs {
  Key key;
  std::vector<uint32_t> crcs;
};

class KeySetPropertyTest : public testing::Test {
 protected:
  uint64_t Below(uint64_t bound) { return random_() % bound; }

  KeyWithCrcs RandomKey() {
    static constexpr KeyKind kKinds[] = {KeyKind::kWrite,  KeyKind::kFill,
                                         KeyKind::kZero,   KeyKind::kDiscard,
                                         KeyKind::kForget, KeyKind::kLost,
                                         KeyKind::kProvisional};
    KeyWithCrcs result;
    Key& key = result.key;
    key.kind = kKinds[Below(std::size(kKinds))];
    const uint64_t max_length =
        HasPayload(key.kind) ? kMaxKeyPayload : uint64_t{UINT32_MAX} * 512;
    key.range.length = (1 + Below(max_length / 512)) * 512;
    if (Below(2) == 0) key.range.length = (1 + Below(16)) * 512;
    key.range.offset =
        ImageOffset(Below((kImageSize - key.range.length) / 512 + 1) * 512);
    if (HasPayload(key.kind)) {
      const uint64_t free_blocks =
          geometry_.blocks_per_segment() - PayloadBlocks(key);
      key.position.segment = SegmentId(Below(geometry_.segment_count()));
      key.position.offset = SegmentOffset(Below(free_blocks + 1) * kBlockSize);
      key.generation = Generation(1 + Below(UINT32_MAX));
    }
    while (result.crcs.size() < PayloadBlocks(key)) {
      result.crcs.push_back(static_cast<uint32_t>(random_()));
    }
    return result;
  }

  // Fills `keys` with what is in the set returned.
  std::span<const std::byte> RandomSet(std::span<std::byte> buffer,
                                       std::vector<KeyWithCrcs>& keys) {
    KeySetBuilder builder(buffer);
    const size_t wanted = 1 + Below(Below(10) == 0 ? 2047 : 8);
    for (size_t i = 0; i < wanted; ++i) {
      KeyWithCrcs key = RandomKey();
      if (!builder.Add(key.key, key.crcs)) break;
      keys.push_back(std::move(key));
    }
    header_.sequence = SequenceNumber(2 + Below(uint64_t{1} << 50));
    // More than that is damage.
    header_.incarnation = Incarnation(random_() & 0x7fffffff);
    header_.begins_epoch = Below(2) == 0;
    header_.image = ImageTag(random_());
    return builder.Seal(header_);
  }

  absl::StatusOr<KeySetView> Parse(std::span<const std::byte> bytes) const {
    return KeySetView::Parse(
        bytes, {header_.image, header_.sequence, header_.incarnation},
        geometry_, kImageSize);
  }

  std::mt19937_64 random_{RandomSeed()};
  const Geometry geometry_ = *Geometry::ForDevice(10 * kGiB, 0);
  KeySetHeader header_;
};

TEST_F(KeySetPropertyTest, ParsingYieldsWhatWasBuilt) {
  std::vector<std::byte> buffer(kMaxKeySetSize);
  for (int i = 0; i < 3000; ++i) {
    std::vector<KeyWithCrcs> keys;
    const auto set = RandomSet(buffer, keys);

    const auto view = Parse(set);

    ASSERT_THAT(view, IsOk());
    ASSERT_EQ(view->header().length, set.size());
    ASSERT_EQ(view->header().key_count, keys.size());
    ASSERT_EQ(view->header().begins_epoch, header_.begins_epoch);
    KeySetView::Cursor cursor(*view);
    for (const KeyWithCrcs& want : keys) {
      ASSERT_TRUE(cursor.Next());
      ASSERT_EQ(cursor.key(), want.key);
      for (uint32_t block = 0; block < want.crcs.size(); ++block) {
        ASSERT_EQ(cursor.crc(block), want.crcs[block]);
      }
    }
    ASSERT_FALSE(cursor.Next());
  }
}

TEST_F(KeySetPropertyTest, AChangedByteIsNeverTakenForAValidSet) {
  std::vector<std::byte> buffer(kMaxKeySetSize);
  for (int i = 0; i < 3000; ++i) {
    std::vector<KeyWithCrcs> keys;
    const auto set = RandomSet(buffer, keys);
    std::vector<std::byte> changed(set.begin(), set.end());
    const size_t at = Below(changed.size());
    changed[at] ^= static_cast<std::byte>(1 + Below(255));

    ASSERT_THAT(Parse(changed), StatusIs(absl::StatusCode::kNotFound));
  }
}

// With the CRC made right the bounds alone decide; whatever they let pass must
// be safe to use.
TEST_F(KeySetPropertyTest, WhatIsAcceptedIsWithinBounds) {
  std::vector<std::byte> buffer(kMaxKeySetSize);
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<KeyWithCrcs> keys;
    const auto set = RandomSet(buffer, keys);
    std::vector<std::byte> changed(set.begin(), set.end());
    changed[kKeySetHeaderSize + Below(changed.size() - kKeySetHeaderSize)] =
        static_cast<std::byte>(random_());
    StoreLittle<uint32_t>(changed, 0, Crc32c(std::span(changed).subspan(4)));

    const auto view = Parse(changed);

    if (!view.ok()) {
      ASSERT_THAT(view, StatusIs(absl::StatusCode::kDataLoss));
      continue;
    }
    ++accepted;
    KeySetView::Cursor cursor(*view);
    while (cursor.Next()) {
      const Key& key = cursor.key();
      ASSERT_LE(key.range.end().value(), kImageSize);
      if (!HasPayload(key.kind)) continue;
      ASSERT_LT(key.position.segment.value(), geometry_.segment_count());
      ASSERT_LE(key.position.offset.value() + PayloadBlocks(key) * kBlockSize,
                geometry_.segment_size());
    }
  }
  EXPECT_GT(accepted, 1000) << "the test no longer reaches the bounds";
}

}  // namespace
}  // namespace pcachefs
