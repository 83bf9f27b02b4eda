// Brings dirty data to the backing device, epoch by epoch, so that the backing
// device is at every instant what a plain disk could be after a power cut.
//
// One batch at a time: key sets from dirty_tail on that a barrier has covered,
// up to the end of the epoch or the size of a batch. Inside a batch the newest
// wins and writes are sorted and merged. Then the backing device is flushed,
// dirty_tail moves (C3) and is made durable before the next epoch is touched:
// otherwise a crash could repeat an old epoch over a newer one.
//
// Order `grouped` puts several whole epochs into a batch, `relaxed` whatever fits:
// while such a batch is on its way the backing device alone is not consistent.
//
// Where writes go around the cache nothing is dirty; then a batch is but a flush
// of the backing device, at most one in a commit interval, that lets dirty_tail
// pass provisional keys.
//
// Verified before it leaves: payload with a wrong checksum is not written back
// but marked lost, and reads of it answer an error.

#ifndef PCACHEFS_CORE_WRITEBACK_H_
#define PCACHEFS_CORE_WRITEBACK_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/image_core.h"
#include "core/writeback_batch.h"
#include "core/writeback_pace.h"
#include "meta/types.h"

namespace pcachefs {

class Writeback {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  // `core` outlives it.
  explicit Writeback(ImageCore& core)
      : core_(core),
        pace_(core.clock(), core.settings(), core.counters()) {}

  // A bounded amount of work; never waits for the backing device. True if
  // anything was done. One caller at a time.
  bool Step();

  // `done` runs when everything that is dirty now is on the backing device.
  void Drain(Done done);

  // Answers everyone who waits for a drain; true if anyone did.
  bool FailDrains(const absl::Status& status);

  // Starts nothing new; true when nothing is in flight any more.
  bool Stop();

  // Several epochs are on their way at once.
  bool group_in_flight() const { return group_in_flight_; }
  // The backing device holds a state that a plain disk could hold after a power
  // cut: no group in flight, and none begun that dirty_tail has not passed.
  bool backing_consistent();
  // Of the sets before `end` any part may have been written back.
  void NoteMixed(SequenceNumber end);

  // When Step has nothing to do before then: the end of a back-off.
  absl::Time next_step() const { return retry_at_; }

 private:
  enum class Phase { kIdle, kWriting, kWritten, kFlushing, kFlushed };

  struct DrainWaiter {
    SequenceNumber target;
    Done done;
  };

  // Takes the mark of a looser order off the record when it has no meaning.
  bool ClearMixedEpochs();
  bool MayStartBatch();
  bool StartBatch();
  // Somebody waits for what writeback does, or it is late.
  bool IsUrgent();
  // No batch holds more than an eighth of the image's share: writers who wait
  // get space back piece by piece.
  uint64_t LargestBatch();
  void SubmitWrites();
  void SubmitFlush();
  bool FinishBatch();
  void Fail(const absl::Status& status);
  void Succeed();
  void OnRequestDone(uint64_t bytes, absl::Status status);
  bool AnswerDrains();

  ImageCore& core_;
  WritebackPace pace_;
  std::atomic<Phase> phase_{Phase::kIdle};
  std::atomic<int> pending_{0};
  std::atomic<bool> stopping_{false};
  std::unique_ptr<WritebackBatch> batch_;
  absl::Time retry_at_ = absl::InfinitePast();
  absl::Duration back_off_;
  int failures_ = 0;    // in a row
  int unreadable_ = 0;  // of them, since the cache device read it all
  absl::Time next_around_ = absl::InfinitePast();
  std::atomic<bool> group_in_flight_{false};
  std::atomic<uint64_t> mixed_until_{0};  // number of a key set
  absl::Mutex mutex_;
  absl::Status batch_status_ ABSL_GUARDED_BY(mutex_);
  std::vector<DrainWaiter> drains_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_WRITEBACK_H_
