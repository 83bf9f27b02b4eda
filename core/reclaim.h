// Frees the oldest clean part of an image's log and the segments that nothing
// names any more.
//
// From key_tail on, never beyond dirty_tail: what a key still covers leaves the
// index, its reference on its segment is dropped. Segments without references
// get their next generation; after one barrier, which also makes key_tail
// durable, they are handed out again (C2). A log segment that key_tail has left
// is freed one round later, when that key_tail is durable (C5). Data that was
// hit goes to the head again (core/second_life.h), and so do marks of lost data.

#ifndef PCACHEFS_CORE_RECLAIM_H_
#define PCACHEFS_CORE_RECLAIM_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "core/image_core.h"
#include "core/second_life.h"
#include "meta/key_set.h"
#include "meta/types.h"

namespace pcachefs {

// Not thread-safe: one caller of Step at a time.
class Reclaim {
 public:
  // `core` outlives it.
  explicit Reclaim(ImageCore& core) : core_(core), second_life_(core) {}

  // One round, if used segments pass gc_percent or a writer waits. True if
  // anything was done.
  bool Step();

 private:
  bool Wanted();
  // Walks key sets until enough segments lost their last reference.
  absl::Status PassKeySets();
  // Nothing was dropped when it fails.
  absl::Status PassSet(const KeySetView& set);
  void PassKey(const Key& key, SequenceNumber sequence);
  // Moves the marks of lost data of a set that still stand to the head.
  absl::Status MoveMarks(const KeySetView& set);
  // Stores the next generations of what can be freed now; those segments.
  absl::StatusOr<std::vector<SegmentId>> StoreFreed();

  void Report(const absl::Status& status);

  ImageCore& core_;
  SecondLife second_life_;
  // Log segments that a durable key_tail, or the one of the coming barrier, has
  // left.
  std::vector<SegmentId> left_log_segments_;
  std::vector<SegmentId> newly_left_log_segments_;
  // Marks of lost data went to the head of the log in this round.
  bool moved_marks_ = false;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_RECLAIM_H_
