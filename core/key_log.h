// The append end of an image's log.
//
// A set is readable, in memory that outlives the process, when Append returns;
// it is durable once a barrier of the cache device that began after that has
// completed. Numbers of sets have no gaps: the order of appends is the order of
// the writes (C8 is kept by callers, who hold the shard locks of the range).

#ifndef PCACHEFS_CORE_KEY_LOG_H_
#define PCACHEFS_CORE_KEY_LOG_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "core/barrier.h"
#include "core/image_space.h"
#include "iobackend/cache_device.h"
#include "meta/key_set.h"
#include "meta/types.h"

namespace pcachefs {

// A key on its way to the log. `checksums` is one per payload block.
struct PendingKey {
  Key key;
  std::span<const uint32_t> checksums;
};

// Thread-safe. All references outlive it.
class KeyLog {
 public:
  struct Start {
    LogPosition head;
    Incarnation incarnation;
    SequenceNumber durable;  // sets up to here were covered by a barrier
  };

  KeyLog(CacheDevice& device, ImageSpace& space, Barrier& barrier,
         ImageTag image, const Start& start);

  // Appends one set with all `keys`, or nothing. ResourceExhausted: the log
  // needs a segment and there is none (nothing was changed: wait for reclaim);
  // a set of nothing but marks of lost data may take the share's last one.
  // Unavailable: the device failed; the log accepts nothing any more (C9).
  absl::StatusOr<SequenceNumber> Append(std::span<const PendingKey> keys);

  // Nothing is appended any more: Append answers Unavailable.
  void Close();

  // The user's flush: what is appended from now on belongs to the next epoch.
  // Returns the number of the last dirty set.
  SequenceNumber EndEpoch();
  // The last set before the last EndEpoch.
  SequenceNumber last_epoch_end();

  LogPosition head();
  // The last set with a dirty key, and the last set.
  SequenceNumber last_dirty();
  SequenceNumber last();
  // The last set that holds anything but marks of lost data and links.
  SequenceNumber last_unmarked();

  // Sets up to durable() were covered by a barrier. MarkDurable is called after
  // a barrier that began when the set `sequence` had been appended.
  SequenceNumber durable();
  void MarkDurable(SequenceNumber sequence);

 private:
  absl::StatusOr<SequenceNumber> AppendLocked(std::span<const PendingKey> keys)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Blanks the pages that a set of this length at the head begins to use: a
  // write of a part of a page that is not in memory would read it from the
  // media first.
  absl::Status BlankPagesLocked(size_t length)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RollLocked(bool for_marks)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status WriteSetLocked(KeySetBuilder& builder, bool is_link)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  CacheDevice& device_;
  ImageSpace& space_;
  Barrier& barrier_;
  const ImageTag image_;
  const Incarnation incarnation_;

  absl::Mutex mutex_;
  LogPosition head_ ABSL_GUARDED_BY(mutex_);
  SequenceNumber last_dirty_ ABSL_GUARDED_BY(mutex_);
  SequenceNumber last_unmarked_ ABSL_GUARDED_BY(mutex_);
  SequenceNumber durable_ ABSL_GUARDED_BY(mutex_);
  bool epoch_ended_ ABSL_GUARDED_BY(mutex_) = false;
  SequenceNumber last_epoch_end_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  const std::unique_ptr<std::array<std::byte, kMaxKeySetSize>> buffer_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_KEY_LOG_H_
