// Changes what stands on a cache device behind everybody's back, with right
// checksums: what no crash does, but a hostile or mistaken writer might.

#ifndef PCACHEFS_TEST_CORE_MEDIA_EDITOR_H_
#define PCACHEFS_TEST_CORE_MEDIA_EDITOR_H_

#include <array>
#include <functional>

#include "core/slot_store.h"
#include "glog/logging.h"
#include "iobackend/cache_device.h"
#include "meta/geometry.h"
#include "meta/records.h"
#include "meta/slot_pair.h"
#include "meta/types.h"

namespace pcachefs {

// Stores the newest version of a record with what `edit` changes, durably.
template <typename T>
void EditRecord(CacheDevice& device, const std::array<MediaOffset, 2>& slots,
                const std::function<void(T&)>& edit) {
  auto choice = LoadSlots<T>(device, slots);
  CHECK_EQ(choice.status(), absl::OkStatus());
  edit(choice->value);
  CHECK_EQ(device.Write(slots[1 - choice->slot],
                        EncodeSlot(choice->value, choice->update_number + 1)),
           absl::OkStatus());
  CHECK_EQ(device.Persist(), absl::OkStatus());
}

inline void EditSegment(CacheDevice& device, const Geometry& geometry,
                        SegmentId id,
                        const std::function<void(SegmentRecord&)>& edit) {
  EditRecord<SegmentRecord>(
      device, {geometry.segment_record(id, 0), geometry.segment_record(id, 1)},
      edit);
}

inline void EditTails(CacheDevice& device, const Geometry& geometry, ImageId id,
                      const std::function<void(LogTails&)>& edit) {
  EditRecord<LogTails>(
      device, {geometry.log_tails(id, 0), geometry.log_tails(id, 1)}, edit);
}

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_CORE_MEDIA_EDITOR_H_
