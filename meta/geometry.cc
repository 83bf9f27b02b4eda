#include "meta/geometry.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "meta/status_macros.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

constexpr uint64_t kSlotSize = 4096;
constexpr uint64_t kCacheInfoOffset = 2 * kSlotSize;
constexpr uint64_t kImageTableOffset = 4 * kSlotSize;
// Image record slots 0 and 1, log tails slots 0 and 1.
constexpr uint64_t kImageTableStride = 4 * kSlotSize;
constexpr uint64_t kLogTailsInStride = 2 * kSlotSize;
static_assert(kSlotSize == kSuperblockSlotSize);

constexpr uint32_t kGrowthFactor = 16;
constexpr uint64_t kSegmentRecordsPerBlock = kBlockSize / kSegmentRecordSize;

// From this size on a device has more image slots and segments that begin at
// multiples of 1 MiB.
constexpr uint64_t kLargeDevice = kGiB;
constexpr uint32_t kImageSlotsSmall = 64;
constexpr uint32_t kImageSlotsLarge = 256;

// Upper bound of what is computed with: keeps every sum below far from 2^64.
constexpr uint64_t kMaxDeviceSize = uint64_t{1} << 62;

uint32_t SegmentCapacity(uint32_t segment_count) {
  const uint64_t wanted =
      RoundUp(uint64_t{segment_count} * kGrowthFactor, kSegmentRecordsPerBlock);
  return static_cast<uint32_t>(std::min<uint64_t>(wanted, kMaxSegmentCount));
}

// Fills in what follows from image_slots and segment_capacity. The alignment is
// that of the size at format, which image_slots remembers: a device that has
// grown beyond 1 GiB keeps its layout.
void DeriveOffsets(Geometry::Stored& stored) {
  stored.segment_table_offset =
      kImageTableOffset + stored.image_slots * kImageTableStride;
  stored.segment_table_stride = RoundUp(
      uint64_t{stored.segment_capacity} * kSegmentRecordSize, kBlockSize);
  stored.segments_offset =
      RoundUp(stored.segment_table_offset + 2 * stored.segment_table_stride,
              stored.image_slots == kImageSlotsLarge ? kMiB : kBlockSize);
}

// How many segments fit behind the metadata.
uint32_t FittingSegments(const Geometry::Stored& stored) {
  if (stored.device_size <= stored.segments_offset) return 0;
  const uint64_t fitting =
      (stored.device_size - stored.segments_offset) / stored.segment_size;
  return static_cast<uint32_t>(
      std::min<uint64_t>(fitting, stored.segment_capacity));
}

// The layout for `segment_count` segments, whether or not they fit.
Geometry::Stored LayOut(uint64_t device_size, uint64_t segment_size,
                        uint32_t segment_count) {
  Geometry::Stored stored;
  stored.device_size = device_size;
  stored.segment_size = static_cast<uint32_t>(segment_size);
  stored.segment_count = segment_count;
  stored.segment_capacity = SegmentCapacity(segment_count);
  stored.image_slots =
      device_size < kLargeDevice ? kImageSlotsSmall : kImageSlotsLarge;
  DeriveOffsets(stored);
  return stored;
}

// The layout with the most segments of this size. More segments need a larger
// table and leave less room, so if some count fits, every smaller one does.
Geometry::Stored Fit(uint64_t device_size, uint64_t segment_size) {
  uint32_t fitting = 0;
  auto too_many = static_cast<uint32_t>(std::min<uint64_t>(
                      device_size / segment_size, kMaxSegmentCount)) +
                  1;
  while (too_many - fitting > 1) {
    const uint32_t middle = fitting + (too_many - fitting) / 2;
    if (FittingSegments(LayOut(device_size, segment_size, middle)) >= middle) {
      fitting = middle;
    } else {
      too_many = middle;
    }
  }
  return LayOut(device_size, segment_size, fitting);
}

absl::Status WrongField(absl::string_view field, uint64_t got,
                        absl::string_view wanted) {
  return absl::DataLossError(
      absl::StrCat("superblock: ", field, ": got ", got, ", want ", wanted));
}

absl::Status CheckEqual(absl::string_view field, uint64_t got, uint64_t want) {
  return got == want ? absl::OkStatus()
                     : WrongField(field, got, absl::StrCat(want));
}

bool IsSegmentSize(uint64_t size) {
  return std::has_single_bit(size) && size >= kMinSegmentSize &&
         size <= kMaxSegmentSize;
}

// Of a device that has kMinSegmentCount segments, bytes.
uint64_t SmallestDevice(uint64_t segment_size) {
  const uint64_t segments = kMinSegmentCount * segment_size;
  return LayOut(segments, segment_size, kMinSegmentCount).segments_offset +
         segments;
}

}  // namespace

absl::StatusOr<Geometry> Geometry::ForDevice(uint64_t device_size,
                                             uint64_t segment_size) {
  if (device_size > kMaxDeviceSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("cache device: size: got ", device_size,
                     " bytes, want at most ", kMaxDeviceSize));
  }
  if (segment_size != 0 && !IsSegmentSize(segment_size)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cache device: segment size: got ", segment_size,
                     " bytes, want a power of two from ", kMinSegmentSize,
                     " to ", kMaxSegmentSize));
  }
  const bool chosen = segment_size == 0;
  if (chosen) segment_size = kDefaultSegmentSize;
  Stored stored = Fit(device_size, segment_size);
  while (chosen && stored.segment_count < kWantedSegmentCount &&
         segment_size > kMinSegmentSize) {
    segment_size /= 2;
    stored = Fit(device_size, segment_size);
  }
  if (stored.segment_count < kMinSegmentCount) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cache device: size: got ", device_size, " bytes, which hold ",
        stored.segment_count, " segments of ", segment_size,
        " bytes, want at least ", kMinSegmentCount, ": ",
        SmallestDevice(segment_size), " bytes or more"));
  }
  return Geometry(stored);
}

absl::StatusOr<Geometry> Geometry::FromStored(const Stored& stored) {
  if (!IsSegmentSize(stored.segment_size)) {
    return WrongField("segment size", stored.segment_size,
                      absl::StrCat("a power of two from ", kMinSegmentSize,
                                   " to ", kMaxSegmentSize));
  }
  if (stored.image_slots != kImageSlotsSmall &&
      stored.image_slots != kImageSlotsLarge) {
    return WrongField("image slots", stored.image_slots,
                      absl::StrCat(kImageSlotsSmall, " or ", kImageSlotsLarge));
  }
  const uint64_t min_device_size =
      stored.image_slots == kImageSlotsLarge ? kLargeDevice : 0;
  if (stored.device_size < min_device_size ||
      stored.device_size > kMaxDeviceSize) {
    return WrongField("device size", stored.device_size,
                      absl::StrCat(min_device_size, " to ", kMaxDeviceSize));
  }
  if (stored.segment_capacity > kMaxSegmentCount ||
      !IsAligned(stored.segment_capacity, kSegmentRecordsPerBlock)) {
    return WrongField("segment capacity", stored.segment_capacity,
                      absl::StrCat("a multiple of ", kSegmentRecordsPerBlock,
                                   ", at most ", kMaxSegmentCount));
  }
  Stored derived = stored;
  DeriveOffsets(derived);
  RETURN_IF_ERROR(CheckEqual("segment table offset",
                             stored.segment_table_offset,
                             derived.segment_table_offset));
  RETURN_IF_ERROR(CheckEqual("segment table stride",
                             stored.segment_table_stride,
                             derived.segment_table_stride));
  RETURN_IF_ERROR(CheckEqual("segments offset", stored.segments_offset,
                             derived.segments_offset));
  // Not more than the capacity either: FittingSegments sees to it.
  const uint32_t fitting = FittingSegments(derived);
  if (stored.segment_count < kMinSegmentCount ||
      stored.segment_count > fitting) {
    return WrongField("segment count", stored.segment_count,
                      absl::StrCat(kMinSegmentCount, " to ", fitting));
  }
  return Geometry(stored);
}

absl::StatusOr<Geometry> Geometry::Grown(uint64_t device_size) const {
  if (device_size < stored_.device_size || device_size > kMaxDeviceSize) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cache device: size: got ", device_size, " bytes, want ",
        stored_.device_size, " (the size it had) to ", kMaxDeviceSize));
  }
  // A device that has not grown keeps its count, even if the fit at format,
  // which also sized the table, left room for one segment more.
  if (device_size == stored_.device_size) return *this;
  Stored grown = stored_;
  grown.device_size = device_size;
  grown.segment_count = FittingSegments(grown);
  return Geometry(grown);
}

MediaOffset Geometry::superblock(int slot) const {
  return SuperblockOffset(slot);
}

MediaOffset Geometry::cache_info(int slot) const {
  ABSL_HARDENING_ASSERT(slot == 0 || slot == 1);
  return MediaOffset(kCacheInfoOffset + slot * kSlotSize);
}

MediaOffset Geometry::image_record(ImageId id, int slot) const {
  ABSL_HARDENING_ASSERT(id.value() < image_slots());
  ABSL_HARDENING_ASSERT(slot == 0 || slot == 1);
  return MediaOffset(kImageTableOffset + id.value() * kImageTableStride +
                     slot * kSlotSize);
}

MediaOffset Geometry::log_tails(ImageId id, int slot) const {
  return image_record(id, slot) + kLogTailsInStride;
}

MediaOffset Geometry::segment_table(int slot) const {
  ABSL_HARDENING_ASSERT(slot == 0 || slot == 1);
  return MediaOffset(stored_.segment_table_offset +
                     slot * stored_.segment_table_stride);
}

MediaOffset Geometry::segment_record(SegmentId id, int slot) const {
  ABSL_HARDENING_ASSERT(id.value() < segment_capacity());
  return segment_table(slot) + id.value() * kSegmentRecordSize;
}

MediaOffset Geometry::position(CachePosition position) const {
  ABSL_HARDENING_ASSERT(position.segment.value() < segment_count());
  ABSL_HARDENING_ASSERT(position.offset.value() <= segment_size());
  return MediaOffset(stored_.segments_offset +
                     uint64_t{position.segment.value()} * stored_.segment_size +
                     position.offset.value());
}

}  // namespace pcachefs
