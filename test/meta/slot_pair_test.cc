// Proves which of two slots is taken, in every combination of their states, and
// that a store into the other slot never costs the newest good copy (ancestor
// bugs B3 and B4), however it is torn.

#include "meta/slot_pair.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/crc32c.h"
#include "meta/endian.h"
#include "meta/records.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr auto kDataLoss = absl::StatusCode::kDataLoss;
constexpr auto kNotFound = absl::StatusCode::kNotFound;

using Slot = std::array<std::byte, CacheInfo::kSize>;

CacheInfo Info(uint64_t start_count) {
  CacheInfo info;
  info.start_count = start_count;
  info.label = "some label";
  return info;
}

Slot Blank() { return {}; }

Slot Valid(uint64_t update_number, uint64_t start_count) {
  return EncodeSlot(Info(start_count), update_number);
}

Slot Torn(uint64_t update_number) {
  Slot slot = Valid(update_number, 1);
  std::fill(slot.begin() + 32, slot.end(), std::byte{0});
  return slot;
}

// A record of another kind, written here by mistake.
Slot OtherType() {
  Slot slot = Valid(9, 1);
  SealSlot(slot, SegmentRecord::kType, 9);
  return slot;
}

// CRC and header are right; the body breaks a rule of its own.
Slot OutOfBounds() {
  Slot slot = Valid(9, 1);
  StoreLittle<uint8_t>(slot, 20, 91);
  SealSlot(slot, CacheInfo::kType, 9);
  return slot;
}

absl::StatusOr<SlotChoice<CacheInfo>> Choose(const Slot& slot0,
                                             const Slot& slot1) {
  return ChooseSlot<CacheInfo>(slot0, slot1);
}

TEST(SlotPair, LargerUpdateNumberWinsInEitherSlot) {
  const auto first = Choose(Valid(8, 80), Valid(7, 70));
  const auto second = Choose(Valid(7, 70), Valid(8, 80));

  ASSERT_THAT(first, IsOk());
  EXPECT_EQ(first->slot, 0);
  EXPECT_EQ(first->update_number, 8u);
  EXPECT_EQ(first->value.start_count, 80u);
  EXPECT_THAT(first->other, IsOk());
  ASSERT_THAT(second, IsOk());
  EXPECT_EQ(second->slot, 1);
  EXPECT_EQ(second->update_number, 8u);
  EXPECT_EQ(second->value.start_count, 80u);
  EXPECT_THAT(second->other, IsOk());
}

TEST(SlotPair, UpdateNumbersAreComparedAsSixtyFourBits) {
  const auto choice = Choose(Valid(uint64_t{1} << 62, 80), Valid(1, 10));

  ASSERT_THAT(choice, IsOk());
  EXPECT_EQ(choice->slot, 0);
}

TEST(SlotPair, AValidSlotBesideABlankOneWinsSilently) {
  const auto first = Choose(Valid(1, 10), Blank());
  const auto second = Choose(Blank(), Valid(1, 10));

  ASSERT_THAT(first, IsOk());
  EXPECT_EQ(first->slot, 0);
  EXPECT_THAT(first->other, IsOk());
  ASSERT_THAT(second, IsOk());
  EXPECT_EQ(second->slot, 1);
  EXPECT_THAT(second->other, IsOk());
}

TEST(SlotPair, AValidSlotBesideABadOneWinsAndTellsWhatIsWrong) {
  const struct {
    Slot bad;
    const char* message;
  } cases[] = {
      {Torn(9), "cache info: crc: got 0x"},
      {OtherType(), "cache info: record type: got 5, want 2"},
      {OutOfBounds(), "cache info: gc_percent: got 91, want 0 to 90"},
  };
  for (const auto& c : cases) {
    for (const int valid_slot : {0, 1}) {
      const Slot valid = Valid(3, 30);

      const auto choice =
          valid_slot == 0 ? Choose(valid, c.bad) : Choose(c.bad, valid);

      ASSERT_THAT(choice, IsOk()) << c.message;
      EXPECT_EQ(choice->slot, valid_slot);
      EXPECT_EQ(choice->update_number, 3u);
      EXPECT_EQ(choice->value.start_count, 30u);
      EXPECT_THAT(choice->other, StatusIs(kDataLoss, HasSubstr(c.message)));
    }
  }
}

TEST(SlotPair, TwoBlankSlotsAreNotFound) {
  EXPECT_THAT(Choose(Blank(), Blank()),
              StatusIs(kNotFound, "cache info: both slots are blank"));
}

// Ancestor bug B4: what two bad copies held was used all the same.
TEST(SlotPair, WithoutAValidSlotItIsDamageUnlessBothAreBlank) {
  const std::vector<Slot> bad = {Torn(4), OtherType(), OutOfBounds()};
  for (const Slot& slot0 : bad) {
    EXPECT_THAT(Choose(slot0, Blank()), StatusIs(kDataLoss));
    EXPECT_THAT(Choose(Blank(), slot0), StatusIs(kDataLoss));
    for (const Slot& slot1 : bad) {
      EXPECT_THAT(
          Choose(slot0, slot1),
          StatusIs(kDataLoss,
                   AllOf(HasSubstr("cache info: no valid slot"),
                         HasSubstr("slot 0: "), HasSubstr("; slot 1: "))));
    }
  }
}

TEST(SlotPair, EqualNumbersAreFineOnlyWithEqualBytes) {
  const auto equal = Choose(Valid(5, 50), Valid(5, 50));

  ASSERT_THAT(equal, IsOk());
  EXPECT_EQ(equal->slot, 0);
  EXPECT_EQ(equal->value.start_count, 50u);
  EXPECT_THAT(Choose(Valid(5, 50), Valid(5, 51)),
              StatusIs(kDataLoss, HasSubstr("update number: got 5 in both")));
}

// Nor is one that the next store would make it.
TEST(SlotPair, UpdateNumberZeroIsNotValid) {
  constexpr uint64_t kMost = uint64_t{1} << 62;
  for (const uint64_t number : {uint64_t{0}, kMost + 1, ~uint64_t{0}}) {
    Slot slot = Valid(1, 10);
    StoreLittle<uint64_t>(slot, 8, number);
    StoreLittle<uint32_t>(slot, 0, Crc32c(std::span(slot).subspan(4)));

    EXPECT_THAT(CheckSlot(slot, CacheInfo::kType, CacheInfo::kSize, "x"),
                StatusIs(kDataLoss,
                         absl::StrCat("x: update number: got ", number,
                                      ", want 1 to ", kMost)));
  }
}

TEST(SlotPair, EveryFlippedBitOfAnUpdateIsNoticed) {
  const Slot old = Valid(1, 10);
  const Slot updated = Valid(2, 20);
  for (size_t bit = 0; bit < 8 * updated.size(); ++bit) {
    Slot flipped = updated;
    flipped[bit / 8] ^= std::byte{1} << bit % 8;

    const auto choice = Choose(old, flipped);

    ASSERT_THAT(choice, IsOk()) << "bit " << bit;
    EXPECT_EQ(choice->slot, 0) << "bit " << bit;
    EXPECT_THAT(choice->other, StatusIs(kDataLoss)) << "bit " << bit;
  }
}

// Ancestor bug B3: an update that tears must leave the newest good copy.
TEST(SlotPair, AStoreTornAtAnyByteLeavesTheOldOrTheNewValue) {
  std::array<Slot, 2> slots = {Valid(1, 10), Blank()};
  for (uint64_t update = 2; update < 6; ++update) {
    const auto before = Choose(slots[0], slots[1]);
    ASSERT_THAT(before, IsOk());
    const int target = 1 - before->slot;
    const Slot next = Valid(before->update_number + 1, update * 10);

    for (size_t torn_at = 0; torn_at < next.size(); ++torn_at) {
      std::array<Slot, 2> torn = slots;
      std::copy_n(next.begin(), torn_at, torn[target].begin());
      const auto after = Choose(torn[0], torn[1]);

      ASSERT_THAT(after, IsOk()) << "torn at " << torn_at;
      EXPECT_THAT(after->value.start_count,
                  testing::AnyOf(before->value.start_count, update * 10));
    }
    slots[target] = next;
    EXPECT_EQ(Choose(slots[0], slots[1])->value.start_count, update * 10);
  }
}

TEST(SlotPair, ALongerRecordOfALaterMinorVersionIsRead) {
  std::vector<std::byte> longer(700);
  Info(42).EncodeBody(longer);
  longer[699] = std::byte{7};
  SealSlot(longer, CacheInfo::kType, 3);
  std::vector<std::byte> slot = longer;
  slot.resize(4096);
  const std::vector<std::byte> blank(4096);

  const auto choice = ChooseSlot<CacheInfo>(slot, blank);

  ASSERT_THAT(choice, IsOk());
  EXPECT_EQ(choice->value.start_count, 42u);
  slot[699] = std::byte{8};
  EXPECT_THAT(ChooseSlot<CacheInfo>(slot, blank), StatusIs(kDataLoss))
      << "the CRC covers the part that this version does not know";
}

TEST(SlotPair, ARecordSizeBeyondTheSlotOrBelowTheRecordIsDamage) {
  for (const int size : {0, 15, 511, 513, 65535}) {
    Slot slot = Valid(1, 10);
    StoreLittle<uint16_t>(slot, 6, static_cast<uint16_t>(size));

    EXPECT_THAT(
        CheckSlot(slot, CacheInfo::kType, CacheInfo::kSize, "x"),
        StatusIs(kDataLoss, "x: record size: got " + std::to_string(size) +
                                ", want 512 to 512"));
  }
}

}  // namespace
}  // namespace pcachefs
