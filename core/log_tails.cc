#include "core/log_tails.h"

#include "glog/logging.h"

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
  CHECK(tails_.dirty_tail.sequence <= position.sequence);  // C4
  tails_.dirty_tail = position;
  return StoreLocked();
}

void TailKeeper::ShowDirtyTail() {
  absl::MutexLock lock(&mutex_);
  shown_dirty_tail_ = tails_.dirty_tail;
}

absl::Status TailKeeper::AdvanceKeyTail(const LogPosition& position) {
  absl::MutexLock lock(&mutex_);
  CHECK(tails_.key_tail.sequence <= position.sequence);
  CHECK(position.sequence <= shown_dirty_tail_.sequence);  // C4
  tails_.key_tail = position;
  return StoreLocked();
}

absl::Status TailKeeper::Store(bool clean_stop) {
  absl::MutexLock lock(&mutex_);
  tails_.clean_stop = clean_stop;
  return StoreLocked();
}

absl::Status TailKeeper::StoreLocked() {
  tails_.key_head = log_.head();
  tails_.committed = log_.durable() + 1;
  return StoreSlot(device_, barrier_, slots_, cursor_, tails_);
}

}  // namespace pcachefs
