// Proves that every parser of a fixed record rejects what the format forbids,
// and says where (ancestor bugs B7 and B8). Each case encodes a good record,
// breaks one field and makes the checksum right again: only the bounds are left
// to notice it.

#include "meta/records.h"

#include <algorithm>
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
#include "meta/endian.h"
#include "meta/slot_pair.h"
#include "meta/units.h"
#include "test/meta/example_records.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;

constexpr auto kDataLoss = absl::StatusCode::kDataLoss;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// The status of loading `value` with `Number` at `offset` changed to `number`.
template <typename Number, typename T>
absl::Status WithField(const T& value, size_t offset, Number number) {
  auto record = EncodeSlot(value, 1);
  StoreLittle<Number>(record, offset, number);
  SealSlot(record, T::kType, 1);
  return T::DecodeBody(record).status();
}

template <typename T>
absl::Status WithText(const T& value, size_t offset, const std::string& text) {
  auto record = EncodeSlot(value, 1);
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  std::copy(bytes.begin(), bytes.end(), record.begin() + offset);
  return T::DecodeBody(record).status();
}

auto Damage(const std::string& text) {
  return StatusIs(kDataLoss, HasSubstr(text));
}

TEST(Superblock, WrongFieldsAreDamage) {
  const Superblock good = ExampleSuperblock();

  EXPECT_THAT(WithField<uint64_t>(good, 16, 0x1122334455667788),
              Damage("superblock: magic: got 0x1122334455667788, want "
                     "0x5346454843414350"));
  EXPECT_THAT(WithField<uint16_t>(good, 24, 2),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       "superblock: major version: got 2, want 1"));
  EXPECT_THAT(WithField<uint32_t>(good, 28, 512),
              Damage("superblock: block size: got 512, want 4096"));
  EXPECT_THAT(WithField<uint32_t>(good, 60, 640),
              Damage("superblock: segment count: got 640, want 16 to 639"));
  EXPECT_THAT(WithField<uint64_t>(good, 88, 0), Damage("segments offset"));
}

TEST(Superblock, LargerMinorVersionIsAccepted) {
  EXPECT_THAT(WithField<uint16_t>(ExampleSuperblock(), 26, 7), IsOk());
}

class ClassifyDeviceTest : public testing::Test {
 protected:
  using Slot = std::array<std::byte, Superblock::kSize>;

  static Slot Ours() { return EncodeSlot(ExampleSuperblock(), 1); }
  static Slot Newer() {
    Slot slot = Ours();
    StoreLittle<uint16_t>(slot, 24, 2);
    SealSlot(slot, Superblock::kType, 2);
    return slot;
  }
  static Slot Foreign() {
    Slot slot = {};
    slot[3] = std::byte{1};
    return slot;
  }
  static Slot Blank() { return {}; }
};

TEST_F(ClassifyDeviceTest, TellsTheFourKindsApart) {
  EXPECT_EQ(ClassifyDevice(Blank(), Blank()), DeviceKind::kBlank);
  EXPECT_EQ(ClassifyDevice(Foreign(), Foreign()), DeviceKind::kForeign);
  EXPECT_EQ(ClassifyDevice(Newer(), Newer()), DeviceKind::kNewer);
  EXPECT_EQ(ClassifyDevice(Ours(), Ours()), DeviceKind::kOurs);
}

TEST_F(ClassifyDeviceTest, OneSlotIsEnoughToTell) {
  EXPECT_EQ(ClassifyDevice(Blank(), Foreign()), DeviceKind::kForeign);
  EXPECT_EQ(ClassifyDevice(Foreign(), Blank()), DeviceKind::kForeign);
  EXPECT_EQ(ClassifyDevice(Blank(), Ours()), DeviceKind::kOurs);
  EXPECT_EQ(ClassifyDevice(Ours(), Foreign()), DeviceKind::kOurs);
  EXPECT_EQ(ClassifyDevice(Foreign(), Newer()), DeviceKind::kNewer);
}

TEST_F(ClassifyDeviceTest, ADeviceBeingConvertedIsNewer) {
  EXPECT_EQ(ClassifyDevice(Ours(), Newer()), DeviceKind::kNewer);
  EXPECT_EQ(ClassifyDevice(Newer(), Ours()), DeviceKind::kNewer);
}

TEST_F(ClassifyDeviceTest, ADamagedVersionOfOneCopyIsNotBelieved) {
  for (int bit = 0; bit < 16; ++bit) {
    Slot rotten = Ours();
    rotten[24 + bit / 8] ^= std::byte(1 << bit % 8);
    EXPECT_EQ(ClassifyDevice(Ours(), rotten), DeviceKind::kOurs);
    EXPECT_EQ(ClassifyDevice(rotten, Ours()), DeviceKind::kOurs);
    EXPECT_EQ(ClassifyDevice(rotten, rotten), DeviceKind::kNewer);
  }
}

TEST_F(ClassifyDeviceTest, DoesNotAskForARightChecksum) {
  Slot rotten = Ours();
  rotten[0] ^= std::byte{1};

  EXPECT_EQ(ClassifyDevice(rotten, Blank()), DeviceKind::kOurs);
}

// Ancestor bug B7: 256 was taken as 0.
TEST(CacheInfo, GcPercentIsAtMostNinety) {
  const CacheInfo good = ExampleCacheInfo();

  EXPECT_THAT(WithField<uint8_t>(good, 20, 90), IsOk());
  EXPECT_THAT(WithField<uint8_t>(good, 20, 91),
              Damage("cache info: gc_percent: got 91, want 0 to 90"));
  EXPECT_THAT(WithField<uint8_t>(good, 20, 255), Damage("gc_percent"));
}

TEST(CacheInfo, LabelIsZeroPaddedUtf8) {
  const CacheInfo good = ExampleCacheInfo();

  EXPECT_THAT(WithText(good, 32, std::string(63, 'x')), IsOk());
  EXPECT_THAT(WithText(good, 32, std::string(64, 'x')),
              Damage("cache info: label: got no zero at the end"));
  EXPECT_THAT(WithText(good, 95, "x"),
              Damage("label: got bytes behind the zero at 8"));
  for (const char* malformed :
       {"\x80", "\xc3", "\xc3(", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xe2\x82"}) {
    EXPECT_THAT(WithText(CacheInfo{}, 32, malformed), Damage("want UTF-8"));
  }
  for (const char* text : {"", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
                           "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_THAT(WithText(CacheInfo{}, 32, text), IsOk());
  }
}

TEST(ImageRecord, ChoicesAreWithinTheirEnumerations) {
  const ImageRecord good = ExampleImageRecord();
  const struct {
    size_t offset;
    uint8_t last;
    const char* message;
  } cases[] = {
      {16, 2, "image record: state: got 3, want 0 to 2"},
      {17, 4, "image record: mode: got 5, want 0 to 4"},
      {18, 2, "image record: order: got 3, want 0 to 2"},
      {19, 90, "image record: gc_percent: got 91, want 0 to 90"},
      {128, 3, "image record: backing kind: got 4, want 1 to 3"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(WithField<uint8_t>(good, c.offset, c.last), IsOk());
    EXPECT_THAT(WithField<uint8_t>(good, c.offset, c.last + 1),
                Damage(c.message));
    EXPECT_THAT(WithField<uint8_t>(good, c.offset, 255), Damage("got 255"));
  }
  EXPECT_THAT(WithField<uint8_t>(good, 128, 0), Damage("backing kind: got 0"));
}

TEST(ImageRecord, SizeIsInSectorsThatAKeyCanName) {
  const ImageRecord good = ExampleImageRecord();

  EXPECT_THAT(WithField<uint64_t>(good, 40, kMaxImageSize), IsOk());
  EXPECT_THAT(WithField<uint64_t>(good, 40, 513),
              Damage("image record: size: got 513, want a multiple of 512"));
  EXPECT_THAT(WithField<uint64_t>(good, 40, kMaxImageSize + 512),
              Damage("size: got"));
}

TEST(ImageRecord, TextsAreZeroPadded) {
  const ImageRecord good = ExampleImageRecord();

  EXPECT_THAT(WithText(good, 64, std::string(64, 'x')), Damage("name"));
  EXPECT_THAT(WithText(good, 144, std::string(255, 'x')), IsOk());
  EXPECT_THAT(WithText(good, 144, std::string(256, 'x')),
              Damage("backing identity: got no zero at the end of 256"));
  EXPECT_THAT(WithText(good, 400, std::string(1023, 'x')), IsOk());
  EXPECT_THAT(WithText(good, 400, std::string(1024, 'x')),
              Damage("backing spec: got no zero at the end of 1024"));
}

// A name from the media becomes a file name.
TEST(ImageRecord, AStoredNameIsAsRestrictedAsAGivenOne) {
  const ImageRecord good = ExampleImageRecord();

  EXPECT_THAT(WithText(good, 64, "../../etc"), Damage("image record: image "
                                                      "name: got '../../etc"));
  EXPECT_THAT(WithText(good, 64, "a/b"), Damage("want only letters"));
  EXPECT_THAT(WithText(good, 64, std::string(9, '\0')),
              Damage("got 0 bytes, want 1 to 63"));
}

TEST(ImageRecord, OneThatDescribesNoImageNeedsNoName) {
  const ImageRecord none;
  const auto record = EncodeSlot(none, 1);

  EXPECT_THAT(ImageRecord::DecodeBody(record), IsOk());
}

TEST(ImageName, IsAFileNameThatIsNotHidden) {
  for (const char* name : {"a", "vm-1.root", "A_b.C-9", "-"}) {
    EXPECT_THAT(ValidateImageName(name), IsOk()) << name;
  }
  EXPECT_THAT(ValidateImageName(std::string(63, 'x')), IsOk());
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string(".a"),
        std::string("a/b"), std::string("a b"), std::string("\xc3\xa9"),
        std::string("a\0b", 3), std::string(64, 'x')}) {
    EXPECT_THAT(ValidateImageName(name), StatusIs(kInvalid)) << name;
  }
}

TEST(LogTails, AreOrdered) {
  LogTails tails = ExampleLogTails();
  EXPECT_THAT(WithField<uint64_t>(tails, 40, 0x2000), IsOk());

  // key_tail, dirty_tail, key_head: sequence numbers 0x1000, 0x2000, 0x3000.
  EXPECT_THAT(WithField<uint64_t>(tails, 40, 0x2001),
              Damage("log tails: key_tail: got 8193, want at most dirty_tail "
                     "8192"));
  EXPECT_THAT(WithField<uint64_t>(tails, 64, 0x3001),
              Damage("log tails: dirty_tail: got 12289, want at most key_head "
                     "12288"));
  EXPECT_THAT(WithField<uint64_t>(tails, 88, 0x1fff), Damage("dirty_tail"));
}

TEST(LogTails, TellWhichProvisionalKeysAreVoid) {
  LogTails tails = ExampleLogTails();
  tails.void_begin = SequenceNumber(0x1100);
  tails.void_end = SequenceNumber(0x1200);

  const auto decoded = LogTails::DecodeBody(EncodeSlot(tails, 1));

  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->void_begin, SequenceNumber(0x1100));
  EXPECT_EQ(decoded->void_end, SequenceNumber(0x1200));
  EXPECT_THAT(WithField<uint64_t>(tails, 112, 0x1201),
              Damage("log tails: void_begin: got 4609, want at most void_end "
                     "4608"));
}

TEST(ImageRecord, KeepsItsFlagsApart) {
  for (const bool mixed : {false, true}) {
    ImageRecord record = ExampleImageRecord();
    record.read_only_backing = !mixed;
    record.mixed_epochs = mixed;

    const auto decoded = ImageRecord::DecodeBody(EncodeSlot(record, 1));

    ASSERT_THAT(decoded, IsOk());
    EXPECT_EQ(decoded->mixed_epochs, mixed);
    EXPECT_EQ(decoded->read_only_backing, !mixed);
  }
}

TEST(LogPosition, LiesWithinTheDevice) {
  const Geometry geometry = *Geometry::ForDevice(10 * kGiB, 0);
  const LogPosition good = {SegmentId(638), SegmentOffset(16 * kMiB - 56),
                            Generation(1), SequenceNumber(1)};
  const auto error = [&](auto change) {
    LogPosition position = good;
    change(position);
    return ValidateLogPosition(position, geometry, "log tails: key_tail");
  };

  EXPECT_THAT(error([](LogPosition&) {}), IsOk());
  EXPECT_THAT(error([](LogPosition& p) { p.segment = SegmentId(639); }),
              Damage("log tails: key_tail: segment: got 639, want less than "
                     "639"));
  EXPECT_THAT(error([](LogPosition& p) { p.segment = SegmentId(UINT32_MAX); }),
              Damage("segment"));
  EXPECT_THAT(
      error([](LogPosition& p) { p.offset = SegmentOffset(16 * kMiB); }),
      Damage("offset: got 16777216"));
  // Here no link would fit.
  EXPECT_THAT(
      error([](LogPosition& p) { p.offset = SegmentOffset(16 * kMiB - 48); }),
      Damage("offset: got 16777168"));
  EXPECT_THAT(error([](LogPosition& p) { p.offset = SegmentOffset(12); }),
              Damage("offset: got 12, want a multiple of 8"));
  EXPECT_THAT(error([](LogPosition& p) { p.generation = Generation(0); }),
              Damage("generation: got 0"));
  EXPECT_THAT(error([](LogPosition& p) { p.sequence = SequenceNumber(0); }),
              Damage("sequence number: got 0"));
}

TEST(SegmentRecord, WrongFieldsAreDamage) {
  const SegmentRecord good = ExampleSegmentRecord();

  EXPECT_THAT(WithField<uint8_t>(good, 20, 3),
              Damage("segment record: use: got 3, want 0 to 2"));
  EXPECT_THAT(WithField<uint32_t>(good, 16, 0),
              Damage("generation of a segment in use: got 0"));
  EXPECT_THAT(WithField<uint64_t>(good, 40, 0),
              Damage("first sequence number of a log segment: got 0"));
}

// What grows by one at a time must not wrap in the next store.
TEST(Records, CountersThatNoDeviceLivesToSeeAreDamage) {
  EXPECT_THAT(WithField<uint32_t>(ExampleSegmentRecord(), 16, 1u << 31),
              IsOk());
  EXPECT_THAT(WithField<uint32_t>(ExampleSegmentRecord(), 16, ~0u),
              Damage("generation: got 4294967295"));
  EXPECT_THAT(WithField<uint32_t>(ExampleImageRecord(), 52, ~0u),
              Damage("incarnation: got 4294967295"));
  EXPECT_THAT(WithField<uint64_t>(ExampleLogTails(), 88, ~0ull),
              Damage("key_head: got 18446744073709551615"));
}

// Ancestor bug B6: a record of a segment that is not in use.
TEST(SegmentRecord, AFreeOneKeepsItsGeneration) {
  SegmentRecord free;
  free.generation = Generation(14);

  const auto decoded = SegmentRecord::DecodeBody(EncodeSlot(free, 1));

  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->use, SegmentUse::kFree);
  EXPECT_EQ(decoded->generation, Generation(14));
}

// Reserved bytes are ignored when read: a later minor version may use them.
TEST(Records, ReservedBytesAreIgnored) {
  EXPECT_THAT(WithField<uint64_t>(ExampleSuperblock(), 104, ~0ull), IsOk());
  EXPECT_THAT(WithField<uint8_t>(ExampleCacheInfo(), 21, 255), IsOk());
  EXPECT_THAT(WithField<uint32_t>(ExampleCacheInfo(), 16, ~0u), IsOk());
  EXPECT_THAT(WithField<uint32_t>(ExampleImageRecord(), 20, ~0u), IsOk());
  EXPECT_THAT(WithField<uint8_t>(ExampleImageRecord(), 2047, 255), IsOk());
  EXPECT_THAT(WithField<uint32_t>(ExampleLogTails(), 36, ~0u), IsOk());
  EXPECT_THAT(WithField<uint64_t>(ExampleSegmentRecord(), 48, ~0ull), IsOk());
}

TEST(Records, WordsAndChoicesConvertBothWays) {
  for (const char* mode : {"writeback", "writethrough", "writearound",
                           "writeonly", "passthrough"}) {
    const auto parsed = ParseCacheMode(mode);
    ASSERT_THAT(parsed, IsOk());
    EXPECT_STREQ(Name(*parsed), mode);
  }
  for (const char* order : {"strict", "grouped", "relaxed"}) {
    const auto parsed = ParseWritebackOrder(order);
    ASSERT_THAT(parsed, IsOk());
    EXPECT_STREQ(Name(*parsed), order);
  }
  EXPECT_THAT(ParseCacheMode("Writeback"),
              StatusIs(kInvalid,
                       "cache mode: got 'Writeback', want one of "
                       "writeback, writethrough, writearound, "
                       "writeonly, passthrough"));
  EXPECT_THAT(ParseWritebackOrder(""),
              StatusIs(kInvalid, HasSubstr("writeback order: got ''")));
  EXPECT_STREQ(Name(ImageState::kAttached), "attached");
  EXPECT_STREQ(Name(BackingKind::kFile), "file");
  EXPECT_STREQ(Name(BackingKind::kBlockDevice), "block-device");
  EXPECT_STREQ(Name(SegmentUse::kLog), "log");
}

}  // namespace
}  // namespace pcachefs
