#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/cache_core.h"
#include "core/slot_store.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

absl::Status CheckKind(CacheDevice& device) {
  std::array<std::array<std::byte, Superblock::kSize>, 2> slots;
  if (device.size() < 2 * kSuperblockSlotSize) {
    return absl::FailedPreconditionError(
        absl::StrCat(device.name(), ": not a pcachefs cache: ", device.size(),
                     " bytes are too small for one"));
  }
  for (int slot : {0, 1}) {
    RETURN_IF_ERROR(device.Read(SuperblockOffset(slot), slots[slot]));
  }
  switch (ClassifyDevice(slots[0], slots[1])) {
    case DeviceKind::kBlank:
      return absl::FailedPreconditionError(absl::StrCat(
          device.name(), ": not a pcachefs cache: it is blank; to make one: "
          "pcachectl format ", device.name()));
    case DeviceKind::kForeign:
      return absl::FailedPreconditionError(absl::StrCat(
          device.name(), ": not a pcachefs cache but something else; to "
          "overwrite it: pcachectl format --force ", device.name()));
    case DeviceKind::kNewer:
      return absl::FailedPreconditionError(absl::StrCat(
          device.name(), ": a pcachefs cache of another format version; want ",
          Superblock::kMajorVersion, ".x: use the pcachefs that wrote it"));
    case DeviceKind::kOurs:
      break;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DeviceRecords> ReadDeviceRecords(CacheDevice& device) {
  RETURN_IF_ERROR(CheckKind(device));
  ASSIGN_OR_RETURN(
      SlotChoice<Superblock> superblock,
      LoadSlots<Superblock>(device, {SuperblockOffset(0),
                                     SuperblockOffset(1)}));
  ASSIGN_OR_RETURN(const Geometry geometry,
                   Geometry::FromStored(superblock.value.geometry));
  if (device.size() < geometry.device_size()) {
    return absl::FailedPreconditionError(absl::StrCat(
        device.name(), ": cache device is truncated: got ", device.size(),
        " bytes, want ", geometry.device_size(),
        "; restore its full size before using it"));
  }
  ASSIGN_OR_RETURN(
      SlotChoice<CacheInfo> info,
      LoadSlots<CacheInfo>(device,
                           {geometry.cache_info(0), geometry.cache_info(1)}));
  return DeviceRecords{
      .superblock = superblock.value,
      .geometry = geometry,
      .info = std::move(info.value),
      .info_cursor = SlotCursor(info.slot, info.update_number)};
}

absl::StatusOr<SlotChoice<ImageRecord>> LoadImageRecord(
    CacheDevice& device, const Geometry& geometry, ImageId id) {
  absl::StatusOr<SlotChoice<ImageRecord>> record = LoadSlots<ImageRecord>(
      device, {geometry.image_record(id, 0), geometry.image_record(id, 1)});
  if (!absl::IsDataLoss(record.status())) return record;
  // The first version goes to slot 0, and no image is served before the second
  // one is durable in slot 1: if that is blank nothing was ever in the image.
  std::array<std::byte, ImageRecord::kSize> second;
  RETURN_IF_ERROR(device.Read(geometry.image_record(id, 1), second));
  if (second == std::array<std::byte, ImageRecord::kSize>{}) {
    return absl::NotFoundError(absl::StrCat(
        "the making of an image was cut short: ", record.status().message()));
  }
  return record;
}

absl::StatusOr<std::map<ImageId, KnownImage>> ReadImageTable(
    CacheDevice& device, const Geometry& geometry) {
  std::map<ImageId, KnownImage> known;
  for (uint32_t i = 0; i < geometry.image_slots(); ++i) {
    const ImageId id(i);
    absl::StatusOr<SlotChoice<ImageRecord>> record =
        LoadImageRecord(device, geometry, id);
    if (absl::IsNotFound(record.status())) continue;
    if (!record.ok()) {
      return absl::Status(record.status().code(),
                          absl::StrCat(device.name(), ": image table, slot ",
                                       i, ": ", record.status().message()));
    }
    known.emplace(id, KnownImage{.record = std::move(record->value),
                                 .cursor = SlotCursor(
                                     record->slot, record->update_number)});
  }
  return known;
}

}  // namespace pcachefs
