// What one image may take of the cache device: its share of the segments.
//
// The last kLogReserve segments of a share are for the log alone, so that a
// cache full of payload can always record what frees it (C10); the very last of
// them for marks of lost data alone, which reclaim must move before it can free
// what they stand in.

#ifndef PCACHEFS_CORE_IMAGE_SPACE_H_
#define PCACHEFS_CORE_IMAGE_SPACE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "core/segment_table.h"
#include "meta/types.h"

namespace pcachefs {

inline constexpr uint32_t kLogReserve = 2;
// Two for the log in use and the next, one open for payload, and some that can
// be written back while that one fills.
inline constexpr uint32_t kMinShare = 6;
// Of an image whose backing device takes no writes: requests, their keys included,
// leave so much to what is carried to the head of the log (core/carry.h). One
// would do; a death in the middle of carrying may leave the rest of one unused.
inline constexpr uint32_t kCarryReserve = 3;
inline constexpr uint32_t kMinShareToCarry = kMinShare + 2 * kCarryReserve;

// For whom payload is allocated.
enum class AllocationPurpose { kRequest, kCarry };

// Thread-safe. `table` outlives it.
class ImageSpace {
 public:
  ImageSpace(SegmentTable& table, ImageId owner, ImageTag image,
             uint32_t share, bool carries = false)
      : table_(table),
        owner_(owner),
        image_(image),
        carry_reserve_(carries ? kCarryReserve : 0),
        share_(share) {}

  // ResourceExhausted if the share is used up; errors of the device.
  absl::StatusOr<SegmentId> TakePayload(
      AllocationPurpose purpose = AllocationPurpose::kRequest);
  absl::StatusOr<SegmentId> TakeLog(SequenceNumber first_sequence,
                                    bool for_marks = false);
  // The segment that is for marks alone is in use.
  bool is_overdrawn() const { return used_ >= share_; }

  // Counts segments that replay found in use.
  void Adopt(uint32_t count) { used_ += count; }
  // The segments were handed back to the table.
  void Returned(uint32_t count) { used_ -= count; }

  uint32_t used() const { return used_; }
  uint32_t share() const { return share_; }
  void set_share(uint32_t share) { share_ = share; }
  // While keys are carried the log may use the reserve for it, too.
  void set_carrying(bool carrying) { is_carrying_ = carrying; }
  // Segments that payload may still take, of requests and at all.
  uint32_t payload_left() const;
  uint32_t carry_left() const;

  // Drops references; the last one of a segment puts it on the list of those
  // that reclaim may free. A segment never gets references again after that:
  // only allocations in an open segment, which the cursor refers to, add any.
  void DropReference(SegmentId id);
  std::vector<SegmentId> TakeUnreferenced();
  // Some wait for readers who are copying from them.
  bool has_unreferenced();
  // Of those, how many nobody is copying from.
  size_t freeable_count();
  void ReturnUnreferenced(std::span<const SegmentId> ids);

  SegmentTable& table() { return table_; }
  ImageTag image() const { return image_; }

 private:
  bool Count(uint32_t limit);
  // The most segments that may be in use with one more for payload.
  uint32_t PayloadLimit(AllocationPurpose purpose) const;

  SegmentTable& table_;
  const ImageId owner_;
  const ImageTag image_;
  const uint32_t carry_reserve_;
  std::atomic<bool> is_carrying_{false};
  std::atomic<uint32_t> share_;
  std::atomic<uint32_t> used_{0};
  absl::Mutex mutex_;
  std::vector<SegmentId> unreferenced_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_IMAGE_SPACE_H_
