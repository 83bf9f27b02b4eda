#include "core/image_settings.h"

#include "absl/strings/str_cat.h"

namespace pcachefs {

absl::Status ImageChanges::Apply(ImageRecord& record) const {
  if (gc_percent && (*gc_percent < 0 || *gc_percent > kMaxGcPercent)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "gc_percent: got ", *gc_percent, ", want 0 to ", kMaxGcPercent));
  }
  const uint64_t floor =
      writeback_rate_floor.value_or(record.writeback_rate_floor);
  const uint64_t ceiling =
      writeback_rate_ceiling.value_or(record.writeback_rate_ceiling);
  if (ceiling != 0 && floor > ceiling) {
    return absl::InvalidArgumentError(
        absl::StrCat("writeback_rate: got a floor of ", floor,
                     " and a ceiling of ", ceiling,
                     " bytes per second, want floor <= ceiling"));
  }
  record.gc_percent = gc_percent.value_or(record.gc_percent);
  const WritebackOrder new_order = order.value_or(record.order);
  // Durable together with the change: a crash must not let the backing device
  // pass for consistent while it holds what the looser order brought there.
  record.mixed_epochs |= record.order != WritebackOrder::kStrict &&
                         new_order == WritebackOrder::kStrict;
  record.order = new_order;
  record.max_dirty = max_dirty.value_or(record.max_dirty);
  record.max_dirty_age = max_dirty_age.value_or(record.max_dirty_age);
  record.writeback_rate_floor = floor;
  record.writeback_rate_ceiling = ceiling;
  record.sequential_cutoff =
      sequential_cutoff.value_or(record.sequential_cutoff);
  return absl::OkStatus();
}

void LiveSettings::Store(const ImageRecord& record) {
  gc_percent_ = record.gc_percent;
  mode_ = record.mode;
  order_ = record.order;
  mixed_epochs_ = record.mixed_epochs;
  max_dirty_ = record.max_dirty;
  max_dirty_age_ = record.max_dirty_age;
  writeback_rate_floor_ = record.writeback_rate_floor;
  writeback_rate_ceiling_ = record.writeback_rate_ceiling;
  sequential_cutoff_ = record.sequential_cutoff;
}

}  // namespace pcachefs
