// Changes an image's mode while it is in use.
//
// Only writeback and writeonly ever have dirty data, and only the other modes
// leave unflushed writes on the backing device; so no mode finds what it does
// not know of:
// - to a mode that goes around the cache: drain while writes go on; close the
//   gate (changes wait in line), drain the rest;
// - from such a mode to writeback or writeonly: close the gate, wait for the
//   writes in flight, flush the backing device;
// - between modes of one sort there is nothing to do.
// The last step stores the record, durably; then the new mode counts and the
// gate opens. After a crash the mode is the record's.
//
// A start in a mode that goes around flushes the backing device before the first
// change: what readers find counts as flushed.

#ifndef PCACHEFS_CORE_MODE_SWITCH_H_
#define PCACHEFS_CORE_MODE_SWITCH_H_

#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "core/image_core.h"
#include "meta/records.h"

namespace pcachefs {

// Thread-safe, but for one caller of Step at a time.
class ModeSwitch {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  // `core` outlives it.
  explicit ModeSwitch(ImageCore& core) : core_(core) {}

  // The image is about to be served.
  void BeginService();

  // FailedPrecondition: read-only, or a switch is going on. An error of a device
  // ends the switch with the mode as it was.
  void Start(CacheMode mode, Done done);
  // Where a switch that is going on leads.
  std::optional<CacheMode> next_mode();

  // True if anything was done.
  bool Step();

  // A switch that is going on ends with `status`; the gate stays as it is.
  void Abandon(const absl::Status& status);

 private:
  enum class Phase { kIdle, kDraining, kClosing, kDrainingRest, kFlushing,
                     kStoring };

  void EnterLocked(Phase phase) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Begins what the phase waits for; its end comes in OnResult.
  void Begin(Phase phase);
  void OnResult(absl::Status status);
  void Advance(Phase phase);
  void End(const absl::Status& status);

  ImageCore& core_;
  absl::Mutex mutex_;
  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kIdle;
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> result_ ABSL_GUARDED_BY(mutex_);
  std::optional<CacheMode> next_ ABSL_GUARDED_BY(mutex_);
  Done done_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_MODE_SWITCH_H_
