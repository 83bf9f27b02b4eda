// Superblock and ClassifyDevice: docs/on_media_format.md section 3.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "meta/endian.h"
#include "meta/geometry.h"
#include "meta/record_field.h"
#include "meta/records.h"
#include "meta/slot_pair.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// "PCACHEFS" as a little-endian number.
constexpr uint64_t kMagic = 0x5346454843414350;
constexpr size_t kMagicOffset = 16;
constexpr size_t kMajorVersionOffset = 24;

bool IsBlank(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](std::byte byte) { return byte == std::byte{0}; });
}

// Nothing but the version of a slot of ours is wrong: the media, not a newer
// program, has changed it.
bool IsOursButForTheVersion(std::span<const std::byte> slot) {
  std::array<std::byte, Superblock::kSize> mended;
  std::copy_n(slot.begin(), mended.size(), mended.begin());
  StoreLittle<uint16_t>(mended, kMajorVersionOffset,
                        Superblock::kMajorVersion);
  return CheckSlot(mended, Superblock::kType, Superblock::kSize,
                   Superblock::kName)
      .ok();
}

}  // namespace

DeviceKind ClassifyDevice(std::span<const std::byte> slot0,
                          std::span<const std::byte> slot1) {
  bool any_magic = false;
  bool any_newer = false;
  int other_versions = 0;
  for (const std::span<const std::byte> slot : {slot0, slot1}) {
    if (LoadLittle<uint64_t>(slot, kMagicOffset) != kMagic) continue;
    any_magic = true;
    if (LoadLittle<uint16_t>(slot, kMajorVersionOffset) ==
        Superblock::kMajorVersion) {
      continue;
    }
    ++other_versions;
    // One such slot is enough: while a newer program converts the device the
    // other slot is still old.
    any_newer |= !IsOursButForTheVersion(slot);
  }
  if (any_newer || other_versions == 2) return DeviceKind::kNewer;
  if (any_magic) return DeviceKind::kOurs;
  return IsBlank(slot0) && IsBlank(slot1) ? DeviceKind::kBlank
                                          : DeviceKind::kForeign;
}

void Superblock::EncodeBody(std::span<std::byte> record) const {
  StoreLittle<uint64_t>(record, kMagicOffset, kMagic);
  StoreLittle<uint16_t>(record, kMajorVersionOffset, kMajorVersion);
  StoreLittle<uint16_t>(record, 26, minor_version);
  StoreLittle<uint32_t>(record, 28, kBlockSize);
  std::memcpy(record.subspan(32, uuid.bytes.size()).data(), uuid.bytes.data(),
              uuid.bytes.size());
  StoreLittle<uint64_t>(record, 48, geometry.device_size);
  StoreLittle<uint32_t>(record, 56, geometry.segment_size);
  StoreLittle<uint32_t>(record, 60, geometry.segment_count);
  StoreLittle<uint32_t>(record, 64, geometry.segment_capacity);
  StoreLittle<uint32_t>(record, 68, geometry.image_slots);
  StoreLittle<uint64_t>(record, 72, geometry.segment_table_offset);
  StoreLittle<uint64_t>(record, 80, geometry.segment_table_stride);
  StoreLittle<uint64_t>(record, 88, geometry.segments_offset);
  StoreLittle<uint64_t>(record, 96, format_time);
}

absl::StatusOr<Superblock> Superblock::DecodeBody(
    std::span<const std::byte> record) {
  const auto magic = LoadLittle<uint64_t>(record, kMagicOffset);
  if (magic != kMagic) {
    return absl::DataLossError(absl::StrCat(
        kName, ": magic: got 0x", absl::Hex(magic, absl::kZeroPad16),
        ", want 0x", absl::Hex(kMagic, absl::kZeroPad16)));
  }
  const auto major = LoadLittle<uint16_t>(record, kMajorVersionOffset);
  if (major != kMajorVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        kName, ": major version: got ", major, ", want ", kMajorVersion));
  }
  const auto block_size = LoadLittle<uint32_t>(record, 28);
  if (block_size != kBlockSize) {
    return FieldError(kName, "block size", block_size,
                      absl::StrCat(kBlockSize));
  }
  Superblock superblock;
  superblock.minor_version = LoadLittle<uint16_t>(record, 26);
  std::memcpy(superblock.uuid.bytes.data(),
              record.subspan(32, superblock.uuid.bytes.size()).data(),
              superblock.uuid.bytes.size());
  superblock.geometry = {
      .device_size = LoadLittle<uint64_t>(record, 48),
      .segment_size = LoadLittle<uint32_t>(record, 56),
      .segment_count = LoadLittle<uint32_t>(record, 60),
      .segment_capacity = LoadLittle<uint32_t>(record, 64),
      .image_slots = LoadLittle<uint32_t>(record, 68),
      .segment_table_offset = LoadLittle<uint64_t>(record, 72),
      .segment_table_stride = LoadLittle<uint64_t>(record, 80),
      .segments_offset = LoadLittle<uint64_t>(record, 88),
  };
  superblock.format_time = LoadLittle<uint64_t>(record, 96);
  RETURN_IF_ERROR(Geometry::FromStored(superblock.geometry).status());
  return superblock;
}

}  // namespace pcachefs
