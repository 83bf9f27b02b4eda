// Pins the on-media format: what is encoded here today must be read for ever.
// The bytes were checked by hand, and their checksums by another program,
// against docs/on_media_format.md. A failure means that devices in use would
// become unreadable: change the format's version, not these bytes.

#include <cstddef>
#include <span>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/key_set.h"
#include "meta/records.h"
#include "meta/slot_pair.h"
#include "test/meta/example_records.h"
#include "test/testing/hex.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

// Decodes what was encoded and encodes it again: no field is lost.
template <typename T>
void ExpectRoundTrip(const T& value, uint64_t update_number) {
  const auto record = EncodeSlot(value, update_number);
  const std::vector<std::byte> blank(T::kSize);

  const auto choice = ChooseSlot<T>(record, blank);

  ASSERT_THAT(choice, IsOk());
  EXPECT_EQ(choice->update_number, update_number);
  EXPECT_EQ(ToHex(EncodeSlot(choice->value, update_number)), ToHex(record));
}

TEST(GoldenBytes, Superblock) {
  EXPECT_EQ(ToHex(EncodeSlot(ExampleSuperblock(), 1)),
            "0000: 5d124a51 01000002 01000000 00000000\n"
            "0010: 50434143 48454653 01000000 00100000\n"
            "0020: c0c1c2c3 c4c5c6c7 c8c9cacb cccdcecf\n"
            "0030: 00000080 02000000 00000001 7f020000\n"
            "0040: 00280000 00010000 00404000 00000000\n"
            "0050: 00000a00 00000000 00006000 00000000\n"
            "0060: 56341268 00000000 00000000 00000000\n");
  ExpectRoundTrip(ExampleSuperblock(), 1);
}

TEST(GoldenBytes, CacheInfo) {
  EXPECT_EQ(ToHex(EncodeSlot(ExampleCacheInfo(), 2)),
            "0000: f1052543 02000002 02000000 00000000\n"
            "0010: 01000000 41000000 08070605 04030201\n"
            "0020: 72c3a973 65727665 00000000 00000000\n");
  ExpectRoundTrip(ExampleCacheInfo(), 2);
}

TEST(GoldenBytes, ImageRecord) {
  EXPECT_EQ(ToHex(EncodeSlot(ExampleImageRecord(), 3)),
            "0000: fb5f936b 03000008 03000000 00000000\n"
            "0010: 0201025a 01000000 a0a1a2a3 a4a5a6a7\n"
            "0020: a8a9aaab acadaeaf 00443322 11000000\n"
            "0030: 24232221 34333231 21436568 00000000\n"
            "0040: 766d2d31 2e726f6f 74000000 00000000\n"
            "0080: 03000000 00000000 48474645 44434241\n"
            "0090: 696e6f3d 31322c66 7369643d 33340000\n"
            "0190: 6e62643a 2f2f686f 73742f65 78706f72\n"
            "01a0: 74000000 00000000 00000000 00000000\n"
            "0590: 58575655 54535251 68676665 64636261\n"
            "05a0: 78777675 74737271 88878685 84838281\n"
            "05b0: 94939291 00000000 00000000 00000000\n");
  ExpectRoundTrip(ExampleImageRecord(), 3);
}

TEST(GoldenBytes, LogTails) {
  EXPECT_EQ(ToHex(EncodeSlot(ExampleLogTails(), 4)),
            "0000: 3a93b85c 04008000 04000000 00000000\n"
            "0010: a0a1a2a3 a4a5a6a7 03000000 08100000\n"
            "0020: 05000000 00000000 00100000 00000000\n"
            "0030: 07000000 10200000 09000000 00000000\n"
            "0040: 00200000 00000000 0b000000 18300000\n"
            "0050: 0d000000 00000000 00300000 00000000\n"
            "0060: ff2f0000 00000000 01000000 00000000\n");
  ExpectRoundTrip(ExampleLogTails(), 4);
}

TEST(GoldenBytes, SegmentRecord) {
  EXPECT_EQ(ToHex(EncodeSlot(ExampleSegmentRecord(), 5)),
            "0000: 3d3e6144 05004000 05000000 00000000\n"
            "0010: 0d000000 02000000 02000000 00000000\n"
            "0020: a0a1a2a3 a4a5a6a7 002f0000 00000000\n");
  ExpectRoundTrip(ExampleSegmentRecord(), 5);
}

TEST(GoldenBytes, KeySet) {
  EXPECT_EQ(ToHex(ExampleKeySet()),
            "0000: d2dc6d5b 08000100 01100000 00000000\n"
            "0010: 02000000 01020000 a0a1a2a3 a4a5a6a7\n"
            "0020: 56341200 00000100 08000000 05000000\n"
            "0030: 03000000 07000000 0df00d60 00000000\n");
}

TEST(GoldenBytes, LinkSet) {
  std::vector<std::byte> buffer(kLinkSetSize);
  KeySetBuilder builder(buffer);
  const Key link = {.kind = KeyKind::kLink,
                    .position = {SegmentId(0x0a0b0c0d), SegmentOffset(0)},
                    .generation = Generation(0x01020304)};
  KeySetHeader header = ExampleKeySetHeader();
  header.begins_epoch = false;
  header.is_link = true;
  header.durable = SequenceNumber(0);
  ASSERT_TRUE(builder.Add(link, {}));

  const auto set = builder.Seal(header);

  EXPECT_EQ(ToHex(set.subspan(4)),
            ToHex(FromHex("          07000100 01100000 00000000"
                          "02000000 02ffffff a0a1a2a3 a4a5a6a7"
                          "00000000 00000500 00000000 0d0c0b0a"
                          "00000000 04030201")));
}

}  // namespace
}  // namespace pcachefs
