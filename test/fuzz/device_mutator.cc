#include "test/fuzz/device_mutator.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "meta/crc32c.h"
#include "meta/key_set.h"
#include "meta/records.h"
#include "meta/slot_pair.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

constexpr size_t kCrcSize = 4;
constexpr size_t kUpdateNumber = 8;  // where it stands in a record

void Store(std::vector<std::byte>& bytes, size_t offset, size_t width,
           uint64_t value) {
  std::byte little[sizeof(value)];
  StoreLittle<uint64_t>(little, 0, value);
  width = std::min(width, bytes.size() - offset);
  std::memcpy(bytes.data() + offset, little, width);
}

// Over the length that it claims, as far as it is there.
void SealKeySet(std::vector<std::byte>& set) {
  const size_t claimed = LoadLittle<uint16_t>(set, 4) * kKeySetAlignment;
  const size_t length =
      std::clamp(claimed, kKeySetHeaderSize, set.size()) - kCrcSize;
  StoreLittle<uint32_t>(
      set, 0,
      Crc32c(std::span<const std::byte>(set).subspan(kCrcSize, length)));
}

}  // namespace

void DeviceMutator::Apply(ByteReader& input) {
  const auto kind = input.Read<uint8_t>();
  Mutation mutation;
  mutation.which = input.Read<uint8_t>();
  mutation.width = uint8_t{1} << (mutation.which >> 6);
  mutation.offset = input.Read<uint16_t>();
  mutation.value = input.Read<uint64_t>();
  mutation.place = input.Read<uint32_t>();
  switch (kind % 8) {
    case 0:
    case 1:
    case 2:
      return EditRecord(mutation);
    case 3:
    case 4:
      return EditKeySet(mutation);
    case 5:
      return ForgeKeySet(mutation);
    case 6:
      return EditBytes(mutation);
    default:
      return CopyBlock(mutation);
  }
}

void DeviceMutator::EditRecord(const Mutation& mutation) {
  const Geometry& geometry = sound_.geometry;
  const ImageId image(mutation.place % 2);
  const SegmentId segment(mutation.place % geometry.segment_count());
  switch (mutation.which % 5) {
    case 0:
      return EditRecord<Superblock>(mutation, geometry.superblock(0),
                                    geometry.superblock(1));
    case 1:
      return EditRecord<CacheInfo>(mutation, geometry.cache_info(0),
                                   geometry.cache_info(1));
    case 2:
      return EditRecord<ImageRecord>(mutation, geometry.image_record(image, 0),
                                     geometry.image_record(image, 1));
    case 3:
      return EditRecord<LogTails>(mutation, geometry.log_tails(image, 0),
                                  geometry.log_tails(image, 1));
    default:
      return EditRecord<SegmentRecord>(mutation,
                                       geometry.segment_record(segment, 0),
                                       geometry.segment_record(segment, 1));
  }
}

template <typename T>
void DeviceMutator::EditRecord(const Mutation& mutation, MediaOffset slot0,
                               MediaOffset slot1) {
  std::vector<std::byte> slots[2] = {std::vector<std::byte>(T::kSize),
                                     std::vector<std::byte>(T::kSize)};
  Read(slot0.value(), slots[0]);
  Read(slot1.value(), slots[1]);
  const uint64_t numbers[2] = {LoadLittle<uint64_t>(slots[0], kUpdateNumber),
                               LoadLittle<uint64_t>(slots[1], kUpdateNumber)};
  const int newest = numbers[1] > numbers[0];
  // The record itself, or a newer one made from it.
  const bool in_place = (mutation.place & 0x8000'0000) != 0;
  const int target = in_place ? newest : 1 - newest;
  std::vector<std::byte> record = slots[newest];
  Store(record, kUpdateNumber + mutation.offset % (T::kSize - kUpdateNumber),
        mutation.width, mutation.value);
  const uint64_t number = LoadLittle<uint64_t>(record, kUpdateNumber);
  SealSlot(record, T::kType,
           std::max<uint64_t>(1, in_place ? number : number + 1));
  Write((target == 0 ? slot0 : slot1).value(), record);
}

void DeviceMutator::EditKeySet(const Mutation& mutation) {
  const LogPosition& at =
      sound_.key_sets[mutation.place % sound_.key_sets.size()];
  const uint32_t room = sound_.geometry.segment_size() - at.offset.value();
  std::vector<std::byte> set(std::min<size_t>(room, kMaxKeySetSize));
  const uint64_t offset =
      sound_.geometry.position({at.segment, at.offset}).value();
  Read(offset, set);
  const size_t length = std::clamp(
      LoadLittle<uint16_t>(set, 4) * kKeySetAlignment, kKeySetHeaderSize,
      set.size());
  Store(set, kCrcSize + mutation.offset % (length - kCrcSize), mutation.width,
        mutation.value);
  SealKeySet(set);
  Write(offset, set);
}

void DeviceMutator::ForgeKeySet(const Mutation& mutation) {
  const LogPosition& model =
      sound_.key_sets[mutation.which % sound_.key_sets.size()];
  // Behind the last one, at the end of a segment, or at its start.
  const Geometry& geometry = sound_.geometry;
  SegmentId segment(mutation.place % geometry.segment_count());
  uint32_t offset = mutation.offset * uint32_t{kKeySetAlignment};
  if ((mutation.which & 0x10) != 0) {
    segment = model.segment;
    offset = model.offset.value() + offset % 4096;
  } else if ((mutation.which & 0x20) != 0) {
    offset = geometry.segment_size() - offset % 4096 - kKeySetAlignment;
  }
  std::vector<std::byte> buffer(kMaxKeySetSize);
  KeySetBuilder builder(buffer);
  const Key key = {
      .kind = static_cast<KeyKind>(1 + (mutation.value >> 60) % 8),
      .range = {ImageOffset((mutation.value & 0x3ff) * kSectorSize),
                (1 + (mutation.value >> 10 & 0x7ff)) * kSectorSize},
      .position = {SegmentId(mutation.value >> 24 & 0x1f),
                   SegmentOffset((mutation.value >> 32 & 0xff) * kBlockSize)},
      .generation = Generation(mutation.value >> 40 & 3)};
  const std::vector<uint32_t> crcs(PayloadBlocks(key), mutation.place);
  if (!builder.Add(key, crcs)) return;
  const SequenceNumber sequence(model.sequence.value() +
                                (mutation.value >> 44 & 0xff));
  const SequenceNumber durable(mutation.value >> 56 & 0xf);
  const auto set = builder.Seal(
      {.sequence = sequence,
       .incarnation = Incarnation(mutation.value >> 52 & 7),
       .begins_epoch = (mutation.value >> 55 & 1) != 0,
       .is_link = key.kind == KeyKind::kLink,
       .image = sound_.image,
       .durable = std::min(durable, sequence)});
  Write(geometry.position({segment, SegmentOffset(0)}).value() + offset,
        {set.begin(), set.end()});
}

void DeviceMutator::EditBytes(const Mutation& mutation) {
  std::vector<std::byte> bytes(mutation.width);
  Store(bytes, 0, bytes.size(), mutation.value);
  Write(Place(mutation.place) + mutation.offset % kBlockSize, bytes);
}

void DeviceMutator::CopyBlock(const Mutation& mutation) {
  std::vector<std::byte> block(kBlockSize);
  Read(Place(mutation.place), block);
  Write(Place(static_cast<uint32_t>(mutation.value)), block);
}

uint64_t DeviceMutator::Place(uint32_t number) const {
  const Geometry& geometry = sound_.geometry;
  const uint32_t which = number / 16;
  switch (number % 16) {
    case 0:
      return geometry.superblock(which % 2).value();
    case 1:
      return geometry.cache_info(which % 2).value();
    case 2:
      return geometry.image_record(ImageId(which / 2 % 2), which % 2).value();
    case 3:
      return geometry.log_tails(ImageId(which / 2 % 2), which % 2).value();
    case 4:
      return geometry.segment_table(which % 2).value();
    case 5: {
      const LogPosition& at = sound_.key_sets[which % sound_.key_sets.size()];
      return geometry.position({at.segment, at.offset}).value();
    }
    default:
      return geometry
          .position({SegmentId(which % geometry.segment_count()),
                     SegmentOffset(which / 32 % geometry.blocks_per_segment() *
                                   kBlockSize)})
          .value();
  }
}

// What does not fit on the device is cut off.
void DeviceMutator::Read(uint64_t offset, std::vector<std::byte>& bytes) {
  if (offset >= device_.size()) return;
  const size_t length = std::min(bytes.size(), device_.size() - offset);
  (void)device_.Read(MediaOffset(offset), std::span(bytes).first(length));
}

void DeviceMutator::Write(uint64_t offset,
                          const std::vector<std::byte>& bytes) {
  if (offset >= device_.size()) return;
  const size_t length = std::min(bytes.size(), device_.size() - offset);
  (void)device_.Write(MediaOffset(offset), std::span(bytes).first(length));
}

}  // namespace pcachefs
