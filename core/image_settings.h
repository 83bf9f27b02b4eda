// Settings of an image that count at once when they are changed in use. Mode,
// share and size are not among them: changing those takes steps of their own.

#ifndef PCACHEFS_CORE_IMAGE_SETTINGS_H_
#define PCACHEFS_CORE_IMAGE_SETTINGS_H_

#include <atomic>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "meta/records.h"

namespace pcachefs {

// What is not set stays as it is. Units and meaning of 0 as in ImageRecord.
struct ImageChanges {
  std::optional<int> gc_percent;  // 0..kMaxGcPercent
  std::optional<WritebackOrder> order;
  std::optional<uint64_t> max_dirty;
  std::optional<uint32_t> max_dirty_age;
  std::optional<uint64_t> writeback_rate_floor;
  std::optional<uint64_t> writeback_rate_ceiling;
  std::optional<uint64_t> sequential_cutoff;

  // InvalidArgument, naming the setting, got and wanted, if `record` may not
  // be changed so.
  absl::Status Apply(ImageRecord& record) const;
};

// A copy of a record's settings that the paths read without a lock. Each is
// read by itself: there is no telling of which change two of them are.
class LiveSettings {
 public:
  explicit LiveSettings(const ImageRecord& record) { Store(record); }

  void Store(const ImageRecord& record);

  int gc_percent() const { return gc_percent_; }
  CacheMode mode() const { return mode_; }
  WritebackOrder order() const { return order_; }
  bool mixed_epochs() const { return mixed_epochs_; }
  uint64_t max_dirty() const { return max_dirty_; }
  uint32_t max_dirty_age() const { return max_dirty_age_; }
  uint64_t writeback_rate_floor() const { return writeback_rate_floor_; }
  uint64_t writeback_rate_ceiling() const { return writeback_rate_ceiling_; }
  uint64_t sequential_cutoff() const { return sequential_cutoff_; }

 private:
  std::atomic<int> gc_percent_;
  std::atomic<CacheMode> mode_;
  std::atomic<WritebackOrder> order_;
  std::atomic<bool> mixed_epochs_;
  std::atomic<uint64_t> max_dirty_;
  std::atomic<uint32_t> max_dirty_age_;
  std::atomic<uint64_t> writeback_rate_floor_;
  std::atomic<uint64_t> writeback_rate_ceiling_;
  std::atomic<uint64_t> sequential_cutoff_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_IMAGE_SETTINGS_H_
