#include "core/dump.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/barrier.h"
#include "core/cache_core.h"
#include "core/log_reader.h"
#include "core/segment_table.h"
#include "core/slot_store.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

absl::StatusOr<LogTails> ReadTails(CacheDevice& device,
                                   const Geometry& geometry, ImageId id) {
  ASSIGN_OR_RETURN(
      SlotChoice<LogTails> tails,
      LoadSlots<LogTails>(device, {geometry.log_tails(id, 0),
                                   geometry.log_tails(id, 1)}));
  return tails.value;
}

}  // namespace

absl::StatusOr<CacheDump> DumpCache(CacheDevice& device) {
  ASSIGN_OR_RETURN(const DeviceRecords records, ReadDeviceRecords(device));
  CacheDump dump = {.superblock = records.superblock, .info = records.info};
  ASSIGN_OR_RETURN(const auto known,
                   ReadImageTable(device, records.geometry));
  for (const auto& [id, image] : known) {
    dump.images.push_back({.id = id,
                           .record = image.record,
                           .tails = ReadTails(device, records.geometry, id)});
  }
  Barrier barrier(device);
  SegmentTable table(device, records.geometry, barrier);
  RETURN_IF_ERROR(table.Load());
  for (uint32_t i = 0; i < table.segment_count(); ++i) {
    dump.segments.push_back(table.record(SegmentId(i)));
  }
  return dump;
}

absl::Status DumpKeys(CacheDevice& device, const std::string& image,
                      const std::function<void(const DumpedKey&)>& visit) {
  ASSIGN_OR_RETURN(const DeviceRecords records, ReadDeviceRecords(device));
  ASSIGN_OR_RETURN(const auto known,
                   ReadImageTable(device, records.geometry));
  Barrier barrier(device);
  SegmentTable table(device, records.geometry, barrier);
  RETURN_IF_ERROR(table.Load());
  for (const auto& [id, found] : known) {
    if (found.record.name != image) continue;
    ASSIGN_OR_RETURN(const LogTails tails,
                     ReadTails(device, records.geometry, id));
    RETURN_IF_ERROR(ValidateLogPosition(tails.key_tail, records.geometry,
                                        "key_tail"));
    LogReader reader(device, table,
                     {.image = found.record.uuid.tag(),
                      .image_size = found.record.size,
                      .position = tails.key_tail,
                      .min_incarnation = tails.tail_incarnation});
    while (true) {
      const LogPosition position = reader.position();
      const absl::StatusOr<KeySetView> set = reader.Next();
      // The end, or a link whose target was lost with it.
      if (absl::IsNotFound(set.status()) ||
          absl::IsFailedPrecondition(set.status())) {
        return absl::OkStatus();
      }
      RETURN_IF_ERROR(set.status());
      KeySetView::Cursor cursor(*set);
      while (cursor.Next()) {
        visit({.position = position,
               .set = set->header(),
               .key = cursor.key()});
      }
    }
  }
  return absl::NotFoundError(
      absl::StrCat(device.name(), ": no image ", image));
}

}  // namespace pcachefs
