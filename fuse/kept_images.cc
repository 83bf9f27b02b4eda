#include "fuse/kept_images.h"

#include <algorithm>
#include <iterator>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "fuse/failover_state.h"
#include "fuse/image_directory.h"
#include "meta/types.h"

namespace pcachefs {

static_assert(ImageDirectory::kMaxImages <= SharedImages::kEntries);

KeptImages::KeptImages(SharedImages& shared) : shared_(shared) {
  absl::MutexLock lock(&mutex_);
  if (shared_.change.is_valid) CarryOut();
}

KeptImages::Kept KeptImages::Adopt(ImageId id, uint64_t tag) {
  absl::MutexLock lock(&mutex_);
  SharedImages::Entry& entry = shared_.entries[id.value()];
  Kept kept;
  if (entry.tag != tag) {
    entry.open_count = 0;
    entry.has_ownership = 0;
    entry.tag = tag;
    return kept;
  }
  kept.open_count = entry.open_count;
  if (entry.has_ownership == 0) return kept;
  kept.ownership = {
      .permissions = entry.permissions,
      .uid = entry.uid,
      .gid = entry.gid,
      .access_time = absl::FromUnixNanos(entry.access_ns),
      .modification_time = absl::FromUnixNanos(entry.modification_ns)};
  return kept;
}

bool KeptImages::CountOpen(ImageId id, uint64_t unique, int change) {
  absl::MutexLock lock(&mutex_);
  if (std::find(std::begin(shared_.counted), std::end(shared_.counted),
                unique) != std::end(shared_.counted)) {
    return false;
  }
  // Whole before it is valid, and carried out as often as need be.
  shared_.change.entry = id.value();
  shared_.change.open_count = shared_.entries[id.value()].open_count + change;
  shared_.change.unique = unique;
  shared_.change.place = shared_.counted_count;
  shared_.change.is_valid.store(true, std::memory_order_release);
  CarryOut();
  return true;
}

void KeptImages::CarryOut() {
  const SharedImages::Change& change = shared_.change;
  shared_.entries[change.entry].open_count = change.open_count;
  shared_.counted[change.place % SharedImages::kCounted] = change.unique;
  shared_.counted_count = change.place + 1;
  shared_.change.is_valid.store(false, std::memory_order_release);
}

// One that a death tears is whole again with the request that is sent again.
void KeptImages::KeepOwnership(ImageId id, const Ownership& ownership) {
  absl::MutexLock lock(&mutex_);
  SharedImages::Entry& entry = shared_.entries[id.value()];
  entry.permissions = ownership.permissions;
  entry.uid = ownership.uid;
  entry.gid = ownership.gid;
  entry.access_ns = absl::ToUnixNanos(ownership.access_time);
  entry.modification_ns = absl::ToUnixNanos(ownership.modification_time);
  entry.has_ownership = 1;
}

}  // namespace pcachefs
