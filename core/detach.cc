// Detach: from an image in service to one that is known or forgotten. Members
// of CacheCore.
//
// A power cut leaves an image that is being removed whole, or without a record;
// then the next start frees its segments (SegmentTable::FreeOrphans). Its
// record is blanked in both slots: else a bad sector could bring the older
// version back, without a log.

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "core/image_core.h"
#include "core/cache_core.h"
#include "core/mutation.h"
#include "core/writeback.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

absl::Status StillDirty(ImageCore& core) {
  return absl::FailedPreconditionError(absl::StrCat(
      "image ", core.name(), ": has ", core.dirty_bytes().load(),
      " bytes of dirty data that its backing device does not have; drain it, "
      "or keep them"));
}

// Without the marks the image would show what was there before: the backing
// device has no later data, and knows nothing of the loss.
absl::Status LosesMarks(const std::string& name, uint64_t bytes) {
  return absl::FailedPreconditionError(absl::StrCat(
      "image ", name, ": ", bytes, " bytes of dirty data were lost on the "
      "cache device, and without the cache older data would be read there; "
      "overwrite or discard them (pcachectl map shows where), keep what is "
      "cached with --keep_dirty, or --force forgets the loss"));
}

}  // namespace

absl::Status CacheCore::Detach(const std::string& name, DetachKind kind) {
  const Turn turn(*this);
  RETURN_IF_ERROR(CheckOpen());
  ASSIGN_OR_RETURN(const ImageId id, FindKnown(name));
  Served* served = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    const auto it = served_.find(id);
    if (it != served_.end()) served = &it->second;
  }
  if (served == nullptr && kind != DetachKind::kDiscard) {
    return absl::FailedPreconditionError(absl::StrCat(
        "image ", name, ": is not attached; attach it to write its data back, "
        "or --force forgets it with all its data in the cache"));
  }
  if (served != nullptr) {
    ImageCore& core = served->image->core();
    if (kind == DetachKind::kRemove && core.has_dirty_data()) {
      return StillDirty(core);
    }
    const uint64_t lost = core.LostBytes();
    if (kind == DetachKind::kRemove && lost > 0) return LosesMarks(name, lost);
    RETURN_IF_ERROR(EndService(id));
  }
  if (kind != DetachKind::kKeepDirty) return Remove(id);
  KnownImage known = GetKnown(id);
  known.record.state = ImageState::kDetached;
  RETURN_IF_ERROR(StoreSlot(device_, barrier_, RecordSlots(id), known.cursor,
                            known.record));
  SetKnown(id, known);
  return barrier_.Persist();
}

absl::Status CacheCore::EndService(ImageId id) {
  Served* served = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    served = &served_.at(id);
    served->is_leaving = true;
    mutex_.Await(absl::Condition(
        +[](Served* served) { return served->users == 0; }, served));
  }
  served->StopThreads();
  ImageCore& core = served->image->core();
  absl::Status closed = CloseImage(core);
  SettleBarrier();
  const KnownImage known = {.record = core.record(),
                            .cursor = core.record_cursor()};
  // Requests to the backing device end here, if not before.
  served->image.reset();
  {
    absl::MutexLock lock(&mutex_);
    known_[id] = known;
    served_.erase(id);
  }
  table_.Forget(table_.OwnedBy(id, known.record.uuid.tag()));
  return closed;
}

void CacheCore::SettleBarrier() {
  if (!committer_.joinable()) {
    barrier_.Step();
    return;
  }
  // Answered in order: who came before us has been called, and has returned.
  absl::Notification settled;
  barrier_.PersistAsync([&settled](const absl::Status&) { settled.Notify(); });
  settled.WaitForNotification();
}

absl::Status CacheCore::Remove(ImageId id) {
  KnownImage known = GetKnown(id);
  if (Planted(Mutation::kSegmentsBeforeRecord)) {
    RETURN_IF_ERROR(FreeSegmentsOf(id, known.record.uuid.tag()));
  }
  const ImageRecord nobody;
  for (int copy = 0; copy < 2; ++copy) {
    RETURN_IF_ERROR(StoreSlot(device_, barrier_, RecordSlots(id), known.cursor,
                              nobody));
    RETURN_IF_ERROR(barrier_.Persist());
  }
  {
    absl::MutexLock lock(&mutex_);
    known_.erase(id);
  }
  vacant_[id] = known.cursor;
  return FreeSegmentsOf(id, known.record.uuid.tag());
}

absl::Status CacheCore::FreeSegmentsOf(ImageId id, ImageTag tag) {
  const std::vector<SegmentId> owned = table_.OwnedBy(id, tag);
  for (const SegmentId segment : owned) {
    RETURN_IF_ERROR(table_.StoreFreed(segment));
  }
  RETURN_IF_ERROR(barrier_.Persist());
  table_.Release(owned);
  return absl::OkStatus();
}

}  // namespace pcachefs
