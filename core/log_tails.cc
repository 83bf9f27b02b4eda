#include "core/log_tails.h"

#include <algorithm>

#include "core/mutation.h"
#include "glog/logging.h"
#include "meta/status_macros.h"

namespace pcachefs {

LogPosition TailKeeper::key_tail() {
  absl::MutexLock lock(&mutex_);
  return tails_.key_tail;
}

LogPosition TailKeeper::dirty_tail() {
  absl::MutexLock lock(&mutex_);
  return shown_dirty_tail_;
}

absl::Status TailKeeper::StoreDirtyTail(const LogPosition& position) {
  absl::MutexLock lock(&mutex_);
  if (Planted(Mutation::kKeyTailPassesDirtyTail) &&
      tails_.dirty_tail.sequence > position.sequence) {
    return StoreLocked();
  }
  CHECK(tails_.dirty_tail.sequence <= position.sequence);  // C4
  tails_.dirty_tail = position;
  return StoreLocked();
}

void TailKeeper::ShowDirtyTail() {
  absl::MutexLock lock(&mutex_);
  shown_dirty_tail_ = tails_.dirty_tail;
}

Incarnation TailKeeper::tail_incarnation() {
  absl::MutexLock lock(&mutex_);
  return tails_.tail_incarnation;
}

bool TailKeeper::ProvisionalCounts(SequenceNumber sequence) {
  absl::MutexLock lock(&mutex_);
  return sequence < tails_.dirty_tail.sequence &&
         (sequence < tails_.void_begin || sequence >= tails_.void_end);
}

void TailKeeper::VoidProvisional(SequenceNumber end) {
  absl::MutexLock lock(&mutex_);
  if (tails_.void_end <= tails_.key_tail.sequence) {
    tails_.void_begin = tails_.dirty_tail.sequence;
  }
  tails_.void_end = end;
}

absl::Status TailKeeper::AdvanceKeyTail(const LogPosition& position,
                                        Incarnation incarnation) {
  absl::MutexLock lock(&mutex_);
  if (Planted(Mutation::kKeyTailPassesDirtyTail) &&
      tails_.dirty_tail.sequence < position.sequence) {
    tails_.dirty_tail = shown_dirty_tail_ = position;
  }
  CHECK(tails_.key_tail.sequence <= position.sequence);
  CHECK(position.sequence <= shown_dirty_tail_.sequence);  // C4
  tails_.key_tail = position;
  tails_.tail_incarnation = std::max(tails_.tail_incarnation, incarnation);
  return StoreLocked();
}

absl::Status TailKeeper::Persist() {
  while (true) {
    RETURN_IF_ERROR(barrier_.Persist());
    absl::MutexLock lock(&mutex_);
    if (cursor_.durable(barrier_)) return absl::OkStatus();
  }
}

absl::Status TailKeeper::Store(bool clean_stop) {
  absl::MutexLock lock(&mutex_);
  tails_.clean_stop = clean_stop;
  return StoreLocked();
}

absl::Status TailKeeper::StoreLocked() {
  tails_.key_head = log_.head();
  tails_.committed = log_.durable() + 1;
  absl::Status stored =
      StoreSlot(device_, barrier_, slots_, cursor_, tails_);
  // Memory is ahead of the media now, and what follows counts on the order.
  if (!stored.ok()) barrier_.Poison(stored);
  return stored;
}

}  // namespace pcachefs
