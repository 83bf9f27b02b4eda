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
                     " bytes are too small for one; name another path, or "
                     "remove it and give --cache_size"));
  }
  // One copy that cannot be read does no harm while the other one can.
  absl::Status failed;
  int unreadable = 0;
  for (int slot : {0, 1}) {
    const absl::Status read = device.Read(SuperblockOffset(slot), slots[slot]);
    if (read.ok()) continue;
    failed = read;
    ++unreadable;
    slots[slot].fill(std::byte{0});
  }
  if (unreadable == 2) return failed;
  const DeviceKind kind = ClassifyDevice(slots[0], slots[1]);
  // Not to be called blank, and formatted, for a sector that cannot be read.
  if (unreadable == 1 && kind != DeviceKind::kOurs) return failed;
  switch (kind) {
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

// As LoadImageRecord; the record of a removed image, of state kNone, too.
absl::StatusOr<SlotChoice<ImageRecord>> LoadImageSlot(
    CacheDevice& device, const Geometry& geometry, ImageId id) {
  absl::StatusOr<SlotChoice<ImageRecord>> record = LoadSlots<ImageRecord>(
      device, {geometry.image_record(id, 0), geometry.image_record(id, 1)});
  if (!absl::IsDataLoss(record.status())) return record;
  // The first version goes to slot 0, and no image is served before the second
  // one is durable in slot 1: if either is blank nothing was ever in the image.
  for (const int slot : {0, 1}) {
    std::array<std::byte, ImageRecord::kSize> bytes;
    if (device.Read(geometry.image_record(id, slot), bytes).ok() &&
        bytes == std::array<std::byte, ImageRecord::kSize>{}) {
      return absl::NotFoundError(
          absl::StrCat("no image was ever served from here: ",
                       record.status().message()));
    }
  }
  return record;
}

// Whether the copy of the superblock that was not chosen should be made anew.
// Not if it cannot be read: that is no better after a store.
bool NeedsCopy(CacheDevice& device, const SlotChoice<Superblock>& chosen) {
  std::array<std::byte, Superblock::kSize> other;
  if (!device.Read(SuperblockOffset(1 - chosen.slot), other).ok()) return false;
  const auto header = CheckSlot(other, Superblock::kType, Superblock::kSize,
                                Superblock::kName);
  const auto superblock = Superblock::DecodeBody(other);
  return !header.ok() || !superblock.ok() ||
         superblock->geometry.device_size !=
             chosen.value.geometry.device_size;
}

// Two records of one image would each take its log for their own.
absl::Status CheckOnlyOne(const std::map<ImageId, KnownImage>& known,
                          ImageId id, const ImageRecord& record) {
  for (const auto& [other_id, other] : known) {
    if (other.record.name != record.name &&
        other.record.uuid.tag() != record.uuid.tag()) {
      continue;
    }
    return absl::DataLossError(absl::StrCat(
        "image table, slots ", other_id.value(), " and ", id.value(),
        ": got image ", other.record.name, " ", other.record.uuid.ToString(),
        " and image ", record.name, " ", record.uuid.ToString(),
        ", want different names and UUIDs"));
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
      .superblock_cursor =
          SlotCursor(superblock.slot, superblock.update_number),
      .superblock_needs_copy = NeedsCopy(device, superblock),
      .geometry = geometry,
      .info = std::move(info.value),
      .info_cursor = SlotCursor(info.slot, info.update_number)};
}

absl::StatusOr<SlotChoice<ImageRecord>> LoadImageRecord(
    CacheDevice& device, const Geometry& geometry, ImageId id) {
  absl::StatusOr<SlotChoice<ImageRecord>> record =
      LoadImageSlot(device, geometry, id);
  if (record.ok() && record->value.state == ImageState::kNone) {
    return absl::NotFoundError("the image was removed");
  }
  return record;
}

absl::StatusOr<std::map<ImageId, KnownImage>> ReadImageTable(
    CacheDevice& device, const Geometry& geometry,
    std::map<ImageId, SlotCursor>* vacant) {
  std::map<ImageId, KnownImage> known;
  for (uint32_t i = 0; i < geometry.image_slots(); ++i) {
    const ImageId id(i);
    absl::StatusOr<SlotChoice<ImageRecord>> record =
        LoadImageSlot(device, geometry, id);
    if (absl::IsNotFound(record.status())) continue;
    if (!record.ok()) {
      return absl::Status(record.status().code(),
                          absl::StrCat(device.name(), ": image table, slot ",
                                       i, ": ", record.status().message()));
    }
    const SlotCursor cursor(record->slot, record->update_number);
    if (record->value.state == ImageState::kNone) {
      if (vacant != nullptr) vacant->emplace(id, cursor);
      continue;
    }
    RETURN_IF_ERROR(CheckOnlyOne(known, id, record->value));
    known.emplace(id, KnownImage{.record = std::move(record->value),
                                 .cursor = cursor});
  }
  return known;
}

absl::Status CheckOwners(const std::map<ImageId, KnownImage>& images,
                         SegmentTable& table) {
  std::map<ImageTag, ImageId> ids;
  for (const auto& [id, image] : images) {
    ids.emplace(image.record.uuid.tag(), id);
  }
  for (uint32_t i = 0; i < table.segment_count(); ++i) {
    const SegmentRecord record = table.record(SegmentId(i));
    if (record.use == SegmentUse::kFree) continue;
    const auto image = ids.find(record.image);
    if (image == ids.end() || image->second == record.owner) continue;
    return absl::DataLossError(absl::StrCat(
        "segment ", i, ": owner: got image slot ", record.owner.value(),
        ", want ", image->second.value(), ", whose tag it carries"));
  }
  return absl::OkStatus();
}

}  // namespace pcachefs
