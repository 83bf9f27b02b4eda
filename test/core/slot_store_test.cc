// Proves C6 for every type of record: whatever a power cut keeps of any number
// of stores, with and without barriers in between, the newest value that was
// durable or a later one is there.

#include "core/slot_store.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "core/barrier.h"
#include "gtest/gtest.h"
#include "meta/geometry.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/random.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr std::array<MediaOffset, 2> kSlots = {MediaOffset(0),
                                               MediaOffset(4096)};
constexpr int kStores = 4;

// A record that carries a number, and the number of a record.
template <typename T>
T Numbered(uint64_t number);
template <>
Superblock Numbered(uint64_t number) {
  return {.geometry = Geometry::ForDevice(64 * kMiB, 0)->stored(),
          .format_time = number};
}
template <>
CacheInfo Numbered(uint64_t number) {
  return {.start_count = number};
}
template <>
ImageRecord Numbered(uint64_t number) {
  // Something in every sector changes, so that torn ones show.
  return {
      .state = ImageState::kAttached,
      .uuid = {.bytes = {1}},
      .size = kMiB,
      .share_segments = 8,
      .create_time = number,
      .name = "vm1",
      .backing = {.size = kMiB,
                  .text = std::string(200, static_cast<char>('a' + number))},
      .backing_spec = std::string(1000, static_cast<char>('a' + number))};
}
template <>
LogTails Numbered(uint64_t number) {
  const LogPosition position = {.generation = Generation(1),
                                .sequence = SequenceNumber(1)};
  return {.image = ImageTag(1),
          .key_tail = position,
          .dirty_tail = position,
          .key_head = position,
          .committed = SequenceNumber(number)};
}
template <>
SegmentRecord Numbered(uint64_t number) {
  return {.generation = Generation(static_cast<uint32_t>(number))};
}

uint64_t NumberOf(const Superblock& record) { return record.format_time; }
uint64_t NumberOf(const CacheInfo& record) { return record.start_count; }
uint64_t NumberOf(const ImageRecord& record) { return record.create_time; }
uint64_t NumberOf(const LogTails& record) { return record.committed.value(); }
uint64_t NumberOf(const SegmentRecord& record) {
  return record.generation.value();
}

template <typename T>
class SlotStoreTest : public testing::Test {
 protected:
  struct Outcome {
    uint64_t durable = 0;  // newest value that a barrier covered
    uint64_t tried = 0;    // newest value whose store began
  };

  // Stores `first`, `first` + 1, ... until the device stops. Bit i of
  // `barriers`: one follows store number i.
  Outcome Store(FakeCacheDevice& device, SlotCursor cursor, uint64_t first,
                uint32_t barriers) {
    Barrier barrier(device);
    Outcome outcome = {.durable = first - 1, .tried = first - 1};
    // What Load found is made durable first, as slot_store.h asks for.
    if (!barrier.Persist().ok()) return outcome;
    for (int i = 0; i < kStores; ++i) {
      outcome.tried = first + i;
      if (!StoreSlot(device, barrier, kSlots, cursor,
                     Numbered<T>(outcome.tried))
               .ok()) {
        break;
      }
      if ((barriers >> i & 1) == 0) continue;
      if (!barrier.Persist().ok()) break;
      outcome.durable = outcome.tried;
    }
    return outcome;
  }

  // A device that holds the value 1.
  std::unique_ptr<FakeCacheDevice> Device(uint32_t atom_size) {
    auto device = std::make_unique<FakeCacheDevice>(
        FakeCacheDevice::Options{.size = 8192, .atom_size = atom_size});
    Barrier barrier(*device);
    SlotCursor cursor;
    EXPECT_THAT(StoreSlot(*device, barrier, kSlots, cursor, Numbered<T>(1)),
                IsOk());
    EXPECT_THAT(barrier.Persist(), IsOk());
    return device;
  }
};

using RecordTypes =
    testing::Types<Superblock, CacheInfo, ImageRecord, LogTails, SegmentRecord>;
TYPED_TEST_SUITE(SlotStoreTest, RecordTypes);

TYPED_TEST(SlotStoreTest, PowerCutLeavesTheOldOrANewerValueNeverNeither) {
  for (const uint32_t atom_size : {8u, 512u}) {
    const auto formatted = this->Device(atom_size);
    for (uint32_t barriers = 0; barriers < 1u << kStores; ++barriers) {
      for (uint64_t stop = 0; stop < 2 * kStores + 2; ++stop) {
        for (uint64_t seed = 0; seed < 6; ++seed) {
          SCOPED_TRACE(testing::Message()
                       << "atoms of " << atom_size << ", barriers " << barriers
                       << ", stop at " << stop << ", seed " << seed);
          auto device = formatted->Fork();
          uint64_t first = 2;
          // Twice: what a start finds is the beginning of the next life.
          for (int life = 0; life < 2; ++life) {
            auto found = LoadSlots<TypeParam>(*device, kSlots);
            ASSERT_THAT(found, IsOk());
            first = NumberOf(found->value) + 1;
            device->StopAt(stop);
            const auto outcome = this->Store(
                *device, SlotCursor(found->slot, found->update_number), first,
                barriers);
            device->Stop();
            Random random(seed);
            device->CutPower(random);

            found = LoadSlots<TypeParam>(*device, kSlots);
            ASSERT_THAT(found, IsOk());
            EXPECT_GE(NumberOf(found->value), outcome.durable);
            EXPECT_LE(NumberOf(found->value), outcome.tried);
          }
        }
      }
    }
  }
}

TYPED_TEST(SlotStoreTest, StoresWithoutABarrierSpareTheDurableValue) {
  const auto device = this->Device(512);
  SlotCursor cursor(0, 1);
  Barrier barrier(*device);

  for (uint64_t number = 2; number < 6; ++number) {
    ASSERT_THAT(StoreSlot(*device, barrier, kSlots, cursor,
                          Numbered<TypeParam>(number)),
                IsOk());
    EXPECT_NE(cursor.NextSlot(barrier), 0) << "the only durable version";
  }
  ASSERT_THAT(barrier.Persist(), IsOk());
  EXPECT_EQ(cursor.NextSlot(barrier), 0);
}

TYPED_TEST(SlotStoreTest, UnreadableSlotCountsAsDamaged) {
  const auto device = this->Device(512);
  device->FailRange(FakeCacheDevice::kRead, kSlots[1].value(), 4096);

  const auto found = LoadSlots<TypeParam>(*device, kSlots);

  ASSERT_THAT(found, IsOk());
  EXPECT_EQ(NumberOf(found->value), 1u);
}

TYPED_TEST(SlotStoreTest, FailedStoreIsTriedAgainInTheSameSlot) {
  const auto device = this->Device(512);
  SlotCursor cursor(0, 1);
  Barrier barrier(*device);
  device->FailNth(FakeCacheDevice::kWrite, 0);

  EXPECT_FALSE(
      StoreSlot(*device, barrier, kSlots, cursor, Numbered<TypeParam>(2)).ok());
  EXPECT_THAT(
      StoreSlot(*device, barrier, kSlots, cursor, Numbered<TypeParam>(3)),
      IsOk());

  EXPECT_EQ(NumberOf(LoadSlots<TypeParam>(*device, kSlots)->value), 3u);
}

}  // namespace
}  // namespace pcachefs
