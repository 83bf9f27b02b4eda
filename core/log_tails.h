// The persistent positions of an image's log: key_tail and dirty_tail, moved by
// reclaim and writeback, stored together so that C4 holds on the media at every
// instant.

#ifndef PCACHEFS_CORE_LOG_TAILS_H_
#define PCACHEFS_CORE_LOG_TAILS_H_

#include <array>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "core/barrier.h"
#include "core/key_log.h"
#include "core/slot_store.h"
#include "iobackend/cache_device.h"
#include "meta/records.h"
#include "meta/types.h"

namespace pcachefs {

// Thread-safe. All references outlive it.
class TailKeeper {
 public:
  TailKeeper(CacheDevice& device, Barrier& barrier, KeyLog& log,
             const std::array<MediaOffset, 2>& slots, const LogTails& tails,
             const SlotCursor& cursor)
      : device_(device),
        barrier_(barrier),
        log_(log),
        slots_(slots),
        tails_(tails),
        shown_dirty_tail_(tails.dirty_tail),
        cursor_(cursor) {}

  LogPosition key_tail();
  // As shown last. Reclaim frees nothing beyond it, so that no segment starts a
  // new life while a crash could still bring an older dirty_tail back, from
  // which writeback would repeat old data over newer data that is not in the
  // cache any more.
  LogPosition dirty_tail();

  // Durable after the next barrier; dirty_tail() follows in ShowDirtyTail,
  // which the caller calls when that barrier has completed.
  absl::Status StoreDirtyTail(const LogPosition& position);
  void ShowDirtyTail();

  // Visible at once; durable after the next barrier. `incarnation` is that of
  // the last set that was passed.
  absl::Status AdvanceKeyTail(const LogPosition& position,
                              Incarnation incarnation);
  Incarnation tail_incarnation();

  // Whether a provisional key of this set counts.
  bool ProvisionalCounts(SequenceNumber sequence);
  // Provisional keys at or beyond dirty_tail, of sets before `end`, count for
  // nothing from now on. To be stored by the caller.
  void VoidProvisional(SequenceNumber end);

  // Makes what was stored durable. Use it instead of the barrier's own Persist:
  // while that runs somebody else may store the tails into the same slot, and
  // until his version is durable too a power cut may tear it, which leaves what
  // was durable before.
  absl::Status Persist();

  // Stores the tails as they are. `clean_stop`: nothing will be appended any
  // more, key_head is exact.
  absl::Status Store(bool clean_stop);

 private:
  absl::Status StoreLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  CacheDevice& device_;
  Barrier& barrier_;
  KeyLog& log_;
  const std::array<MediaOffset, 2> slots_;
  absl::Mutex mutex_;
  LogTails tails_ ABSL_GUARDED_BY(mutex_);
  LogPosition shown_dirty_tail_ ABSL_GUARDED_BY(mutex_);
  SlotCursor cursor_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_LOG_TAILS_H_
