// Proves what makes bytes a valid key set, what makes them damage, and that no
// number of the media is believed before it is checked (ancestor bugs B6, B8).

#include "meta/key_set.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/crc32c.h"
#include "meta/endian.h"
#include "meta/geometry.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/meta/example_records.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;

constexpr auto kDataLoss = absl::StatusCode::kDataLoss;
constexpr auto kNotFound = absl::StatusCode::kNotFound;

constexpr uint64_t kImageSize = 4 * kGiB;

class KeySetTest : public testing::Test {
 protected:
  absl::StatusOr<KeySetView> Parse(std::span<const std::byte> bytes) const {
    return KeySetView::Parse(bytes, expected_, geometry_, kImageSize);
  }

  // A set of `keys`, each with checksums 1, 2, 3, ...
  static std::vector<std::byte> Build(const std::vector<Key>& keys,
                                      bool is_link = false) {
    std::vector<std::byte> buffer(kMaxKeySetSize);
    KeySetBuilder builder(buffer);
    for (const Key& key : keys) {
      std::vector<uint32_t> crcs;
      while (crcs.size() < PayloadBlocks(key)) crcs.push_back(crcs.size() + 1);
      EXPECT_TRUE(builder.Add(key, crcs));
    }
    KeySetHeader header = ExampleKeySetHeader();
    header.is_link = is_link;
    buffer.resize(builder.Seal(header).size());
    return buffer;
  }

  // Makes the CRC right after a change, so that only the bounds can notice it.
  static std::vector<std::byte> Resealed(std::vector<std::byte> set) {
    StoreLittle<uint32_t>(set, 0, Crc32c(std::span(set).subspan(4)));
    return set;
  }

  template <typename Number>
  absl::Status WithField(const std::vector<std::byte>& set, size_t offset,
                         Number number) const {
    std::vector<std::byte> changed = set;
    StoreLittle<Number>(changed, offset, number);
    return Parse(Resealed(changed)).status();
  }

  static auto Damage(const std::string& text) {
    return StatusIs(kDataLoss, HasSubstr(text));
  }

  static Key Link() {
    return {.kind = KeyKind::kLink,
            .position = {SegmentId(9), SegmentOffset(0)},
            .generation = Generation(4)};
  }
  static Key Zero() {
    return {.kind = KeyKind::kZero, .range = {ImageOffset(0), kGiB}};
  }

  const Geometry geometry_ = *Geometry::ForDevice(10 * kGiB, 0);
  const KeySetExpectation expected_ = {
      .image = ExampleKeySetHeader().image,
      .sequence = ExampleKeySetHeader().sequence,
      .min_incarnation = ExampleKeySetHeader().incarnation,
  };
};

TEST_F(KeySetTest, WhatWasBuiltIsParsed) {
  std::vector<std::byte> log = ExampleKeySet();
  log.resize(4096, std::byte{0xee});  // there may be more behind the set

  const auto view = Parse(log);

  ASSERT_THAT(view, IsOk());
  EXPECT_EQ(view->header().length, 64u);
  EXPECT_EQ(view->header().key_count, 1);
  EXPECT_EQ(view->header().sequence, SequenceNumber(0x1001));
  EXPECT_EQ(view->header().incarnation, Incarnation(2));
  EXPECT_TRUE(view->header().begins_epoch);
  EXPECT_FALSE(view->header().is_link);
  EXPECT_EQ(view->header().image, ExampleUuid(0xa0).tag());
  EXPECT_EQ(view->header().durable, SequenceNumber(0xfff));
  KeySetView::Cursor cursor(*view);
  ASSERT_TRUE(cursor.Next());
  EXPECT_EQ(cursor.key(), ExampleKey());
  EXPECT_EQ(cursor.crc(0), kExamplePayloadCrc);
  EXPECT_FALSE(cursor.Next());
  EXPECT_FALSE(cursor.Next());
}

TEST_F(KeySetTest, LinkSetHoldsALinkAndNothingElse) {
  const auto set = Build({Link()}, /*is_link=*/true);

  const auto view = Parse(set);

  ASSERT_THAT(view, IsOk());
  EXPECT_EQ(set.size(), kLinkSetSize);
  EXPECT_TRUE(view->header().is_link);
  KeySetView::Cursor cursor(*view);
  ASSERT_TRUE(cursor.Next());
  EXPECT_EQ(cursor.key(), Link());
}

TEST_F(KeySetTest, ALinkElsewhereIsDamage) {
  EXPECT_THAT(Parse(Build({Link()}, false)), Damage("key set 4097: key 0"));
  EXPECT_THAT(Parse(Build({Zero()}, true)), Damage("kind: got 3"));
  EXPECT_THAT(Parse(Build({Link(), Link()}, true)), Damage("only key"));
  EXPECT_THAT(Parse(Build({Zero(), Link()}, false)), Damage("key 1: kind"));
  EXPECT_THAT(Parse(Build({Link(), Zero()}, true)), Damage("key 0: kind"));
}

TEST_F(KeySetTest, AnotherImageNumberOrIncarnationIsNotFound) {
  const auto set = ExampleKeySet();
  KeySetExpectation other_image = expected_;
  other_image.image = ImageTag(1);
  KeySetExpectation earlier = expected_;
  earlier.sequence = earlier.sequence - 1;
  KeySetExpectation later = expected_;
  later.sequence += 1;
  KeySetExpectation reopened = expected_;
  reopened.min_incarnation = Incarnation(3);
  KeySetExpectation older = expected_;
  older.min_incarnation = Incarnation(1);

  for (const auto& wrong : {other_image, earlier, later, reopened}) {
    EXPECT_THAT(KeySetView::Parse(set, wrong, geometry_, kImageSize),
                StatusIs(kNotFound));
  }
  EXPECT_THAT(KeySetView::Parse(set, older, geometry_, kImageSize), IsOk());
}

TEST_F(KeySetTest, EveryPrefixIsNotFound) {
  const auto set = ExampleKeySet();
  for (size_t size = 0; size < set.size(); ++size) {
    const auto prefix = std::span(set).first(size);

    EXPECT_THAT(Parse(prefix), StatusIs(kNotFound)) << size;
    EXPECT_THAT(KeySetView::Probe(prefix, expected_.image),
                StatusIs(kNotFound));
  }
}

TEST_F(KeySetTest, EveryFlippedBitIsNotFound) {
  const auto set = Build({ExampleKey(), Zero(), ExampleKey()});
  for (size_t bit = 0; bit < 8 * set.size(); ++bit) {
    auto flipped = set;
    flipped[bit / 8] ^= std::byte{1} << bit % 8;

    ASSERT_THAT(Parse(flipped), StatusIs(kNotFound)) << "bit " << bit;
  }
}

TEST_F(KeySetTest, ZerosAreNotFound) {
  const std::vector<std::byte> zeros(kMaxKeySetSize);

  EXPECT_THAT(Parse(zeros), StatusIs(kNotFound));
  EXPECT_THAT(KeySetView::Probe(zeros, ImageTag(0)), StatusIs(kNotFound));
}

TEST_F(KeySetTest, LengthOrCountOutOfBoundsIsNotFound) {
  auto set = ExampleKeySet();
  set.resize(2 * kMaxKeySetSize);
  // Sealed over the length that the set claims: nothing else is wrong with it.
  const auto status = [&](uint16_t length, uint16_t count) {
    auto changed = set;
    StoreLittle<uint16_t>(changed, 4, length);
    StoreLittle<uint16_t>(changed, 6, count);
    StoreLittle<uint32_t>(
        changed, 0,
        Crc32c(std::span(changed).subspan(4, length < 1 ? 0 : length * 8 - 4)));
    return Parse(changed).status();
  };

  EXPECT_THAT(status(8, 1), IsOk());
  for (const uint16_t length : {0, 1, 4, 6, 8193, 65535 / 8 + 2}) {
    EXPECT_THAT(status(length, 1), StatusIs(kNotFound)) << length;
  }
  EXPECT_THAT(status(8, 0), StatusIs(kNotFound));
  EXPECT_THAT(status(8, 2048), StatusIs(kNotFound));
}

TEST_F(KeySetTest, KeysFillTheSetExactly) {
  const auto set = Build({ExampleKey(), ExampleKey()});
  auto longer = set;
  longer.resize(longer.size() + 8);

  EXPECT_THAT(WithField<uint16_t>(set, 6, 1),
              Damage("key set 4097: length: got 96, want 64 for its 1 keys"));
  EXPECT_THAT(WithField<uint16_t>(set, 6, 3),
              Damage("key 2: bytes left in the set: got 0, want at least 24"));
  EXPECT_THAT(WithField<uint16_t>(set, 6, 2047), Damage("bytes left"));
  EXPECT_THAT(WithField<uint16_t>(longer, 4, 13), Damage("length: got 104"));
  // The last key claims more checksums than the set holds.
  EXPECT_THAT(WithField<uint32_t>(set, 64 + 8, 8 * 3),
              Damage("key 1: bytes left in the set: got 32, want at least 40"));
}

TEST_F(KeySetTest, PayloadKeysOutOfBoundsAreDamage) {
  const auto set = ExampleKeySet();
  const uint32_t end_of_image = kImageSize / kSectorSize;

  EXPECT_THAT(WithField<uint8_t>(set, 38, 0),
              Damage("key set 4097: key 0: kind: got 0, want 1 to 8"));
  EXPECT_THAT(WithField<uint8_t>(set, 38, 9), Damage("kind: got 9"));
  EXPECT_THAT(WithField<uint8_t>(set, 38, 255), Damage("kind: got 255"));
  EXPECT_THAT(WithField<uint32_t>(set, 40, 0),
              Damage("length in sectors: got 0, want at least 1"));
  EXPECT_THAT(WithField<uint32_t>(set, 32, end_of_image - 8), IsOk());
  EXPECT_THAT(WithField<uint32_t>(set, 32, end_of_image - 7),
              Damage("end in sectors: got 8388609, want at most 8388608"));
  EXPECT_THAT(WithField<uint16_t>(set, 36, 0xffff), Damage("end in sectors"));
  EXPECT_THAT(WithField<uint32_t>(set, 40, UINT32_MAX),
              Damage("end in sectors"));
  EXPECT_THAT(WithField<uint32_t>(set, 40, 2049),
              Damage("length in sectors: got 2049, want at most 2048"));
  EXPECT_THAT(WithField<uint32_t>(set, 44, 638), IsOk());
  EXPECT_THAT(WithField<uint32_t>(set, 44, 639),
              Damage("segment: got 639, want less than 639"));
  EXPECT_THAT(WithField<uint32_t>(set, 44, UINT32_MAX), Damage("segment"));
  EXPECT_THAT(WithField<uint32_t>(set, 48, 4095), IsOk());
  EXPECT_THAT(WithField<uint32_t>(set, 48, 4096),
              Damage("end in blocks: got 4097, want at most 4096"));
  EXPECT_THAT(WithField<uint32_t>(set, 48, UINT32_MAX),
              Damage("end in blocks: got 4294967296"));
  EXPECT_THAT(WithField<uint32_t>(set, 52, 0), Damage("generation: got 0"));
}

TEST_F(KeySetTest, KeysWithoutPayloadHaveNoPosition) {
  for (const KeyKind kind :
       {KeyKind::kZero, KeyKind::kDiscard, KeyKind::kForget, KeyKind::kLost}) {
    Key key = Zero();
    key.kind = kind;
    const auto set = Build({key});

    EXPECT_THAT(Parse(set), IsOk());
    EXPECT_THAT(WithField<uint32_t>(set, 40, kImageSize / kSectorSize), IsOk())
        << "longer than any payload";
    EXPECT_THAT(WithField<uint32_t>(set, 40, 0), Damage("length in sectors"));
    EXPECT_THAT(WithField<uint32_t>(set, 40, UINT32_MAX),
                Damage("end in sectors"));
    EXPECT_THAT(WithField<uint32_t>(set, 44, 1), Damage("segment: got 1"));
    EXPECT_THAT(WithField<uint32_t>(set, 48, 1), Damage("block: got 1"));
    EXPECT_THAT(WithField<uint32_t>(set, 52, 1), Damage("generation: got 1"));
  }
}

TEST_F(KeySetTest, LinksOutOfBoundsAreDamage) {
  const auto set = Build({Link()}, /*is_link=*/true);

  EXPECT_THAT(WithField<uint32_t>(set, 32, 1),
              Damage("image offset of a link"));
  EXPECT_THAT(WithField<uint32_t>(set, 40, 1), Damage("length of a link"));
  EXPECT_THAT(WithField<uint32_t>(set, 44, 639), Damage("segment: got 639"));
  EXPECT_THAT(WithField<uint32_t>(set, 48, 1), Damage("block of a link"));
  EXPECT_THAT(WithField<uint32_t>(set, 52, 0), Damage("generation: got 0"));
}

TEST_F(KeySetTest, ReservedBytesAndUnknownFlagsAreIgnored) {
  const auto set = ExampleKeySet();

  EXPECT_THAT(WithField<uint8_t>(set, 39, 255), IsOk());
  EXPECT_THAT(WithField<uint8_t>(set, 20, 0xfd), IsOk());
  EXPECT_THAT(WithField<uint32_t>(set, 60, ~0u), IsOk());
}

TEST_F(KeySetTest, ProbeTellsTheHeaderWhateverTheNumber) {
  const auto set = ExampleKeySet();

  const auto header = KeySetView::Probe(set, expected_.image);

  ASSERT_THAT(header, IsOk());
  EXPECT_EQ(header->sequence, SequenceNumber(0x1001));
  EXPECT_EQ(header->durable, SequenceNumber(0xfff));
  EXPECT_THAT(KeySetView::Probe(set, ImageTag(1)), StatusIs(kNotFound));
  EXPECT_THAT(KeySetView::Probe(std::span(set).subspan(8), expected_.image),
              StatusIs(kNotFound));
}

TEST_F(KeySetTest, DurableNumberIsKeptAsFarAsItsDistanceReaches) {
  const struct {
    uint64_t sequence;
    uint64_t durable;
    uint64_t want;
  } cases[] = {
      {1, 0, 0},
      {5, 4, 4},
      {0xffffff, 1, 1},           // the largest distance
      {0x1000000, 1, 0},          // one further: not told
      {uint64_t{1} << 40, 1, 0},  // far further
      {uint64_t{1} << 40, (uint64_t{1} << 40) - 1, (uint64_t{1} << 40) - 1},
  };
  for (const auto& c : cases) {
    std::array<std::byte, 64> buffer;
    KeySetBuilder builder(buffer);
    ASSERT_TRUE(builder.Add(Zero(), {}));

    const auto set = builder.Seal({.sequence = SequenceNumber(c.sequence),
                                   .image = ImageTag(7),
                                   .durable = SequenceNumber(c.durable)});

    EXPECT_EQ(KeySetView::Probe(set, ImageTag(7))->durable.value(), c.want)
        << c.sequence;
  }
}

TEST_F(KeySetTest, ADistanceBeyondTheLogTellsNothing) {
  auto set = ExampleKeySet();
  StoreLittle<uint16_t>(set, 21, 0x1002);  // the set's own number is 0x1001

  const auto header = KeySetView::Probe(Resealed(set), expected_.image);

  ASSERT_THAT(header, IsOk());
  EXPECT_EQ(header->durable, SequenceNumber(0));
}

TEST(KeySetBuilder, RefusesAKeyThatDoesNotFit) {
  std::array<std::byte, 100> buffer;
  KeySetBuilder builder(buffer);

  EXPECT_TRUE(builder.empty());
  EXPECT_TRUE(builder.Add(ExampleKey(), std::span(&kExamplePayloadCrc, 1)));
  EXPECT_EQ(builder.size(), 64u);
  EXPECT_TRUE(builder.Add(ExampleKey(), std::span(&kExamplePayloadCrc, 1)));
  EXPECT_EQ(builder.size(), 96u);
  EXPECT_FALSE(builder.Add(ExampleKey(), std::span(&kExamplePayloadCrc, 1)));
  EXPECT_EQ(builder.size(), 96u);
  EXPECT_FALSE(builder.empty());
}

TEST(KeySetBuilder, StopsAtTheLargestCountAndTheLargestSet) {
  std::vector<std::byte> buffer(2 * kMaxKeySetSize);
  const Key zero = {.kind = KeyKind::kZero, .range = {ImageOffset(0), 512}};
  Key large = ExampleKey();
  large.range.length = kMaxKeyPayload;
  const std::vector<uint32_t> crcs(256);

  KeySetBuilder many(buffer);
  int count = 0;
  while (many.Add(zero, {})) ++count;
  KeySetBuilder wide(buffer);
  while (wide.Add(large, crcs)) {
  }

  EXPECT_EQ(count, 2047);
  EXPECT_LE(wide.size(), kMaxKeySetSize);
  EXPECT_GT(wide.size() + EncodedKeySize(256), kMaxKeySetSize);
}

TEST(KeyKind, HasANameForMessages) {
  EXPECT_STREQ(Name(KeyKind::kWrite), "write");
  EXPECT_STREQ(Name(KeyKind::kLost), "lost");
  EXPECT_STREQ(Name(KeyKind::kProvisional), "provisional");
  EXPECT_STREQ(Name(static_cast<KeyKind>(77)), "unknown");
}

}  // namespace
}  // namespace pcachefs
