#include "core/reclaim.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/log_reader.h"
#include "core/publish.h"
#include "core/write_path.h"
#include "glog/logging.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Bounds one round, so that what it frees is soon of use.
constexpr uint64_t kMaxSets = 65536;

}  // namespace

bool Reclaim::Step() {
  if (!Wanted() || !core_.barrier().status().ok()) return false;
  const LogPosition before = core_.tails().key_tail();
  absl::Status status = PassKeySets();
  const bool moved = core_.tails().key_tail().sequence != before.sequence;
  // What was passed before a failure can be freed all the same.
  absl::StatusOr<std::vector<SegmentId>> freed = StoreFreed();
  if (freed.ok() && (moved || !freed->empty())) {
    status.Update(core_.tails().Persist());
  }
  status.Update(freed.status());
  if (!core_.barrier().status().ok() || !freed.ok()) {
    Report(status);
    return false;
  }
  left_log_segments_ = std::exchange(newly_left_log_segments_, {});
  core_.table().Release(*freed);
  core_.space().Returned(freed->size());
  core_.counters().Add(Counter::kReclaimedSegments, freed->size());
  if (!status.ok()) Report(status);
  return moved || !freed->empty();
}

void Reclaim::Report(const absl::Status& status) {
  core_.counters().Add(Counter::kCacheErrors);
  if (core_.health().Set(HealthState::kDegraded,
                         absl::StrCat("reclaim: ", status.message()))) {
    LOG(ERROR) << "image " << core_.name() << ": reclaim failed: " << status;
  }
}

bool Reclaim::Wanted() {
  if (core_.write_path().has_waiting()) return true;
  const uint64_t used = core_.space().used();
  return used * 100 >= uint64_t{core_.space().share()} *
                           static_cast<uint64_t>(core_.settings().gc_percent());
}

absl::Status Reclaim::PassKeySets() {
  const LogPosition dirty_tail = core_.tails().dirty_tail();
  LogPosition position = core_.tails().key_tail();
  if (position.sequence >= dirty_tail.sequence) return absl::OkStatus();
  // A thirty-second of the share in one round, at least one segment.
  const size_t wanted = std::max<size_t>(1, core_.space().share() / 32);
  LogReader reader(core_.device(), core_.table(),
                   {.image = core_.tag(),
                    .image_size = core_.size(),
                    .position = position,
                    .min_incarnation = core_.tails().tail_incarnation()});
  absl::Status status;
  for (uint64_t sets = 0;
       sets < kMaxSets && position.sequence < dirty_tail.sequence &&
       core_.space().unreferenced_count() + newly_left_log_segments_.size() <
           wanted;
       ++sets) {
    absl::StatusOr<KeySetView> set = reader.Next();
    if (!set.ok()) {
      status = absl::DataLossError(absl::StrCat(
          "key log unreadable in segment ", position.segment.value(), " at ",
          position.offset.value(), ", key set ", position.sequence.value(),
          ": ", set.status().message()));
      break;
    }
    KeySetView::Cursor cursor(*set);
    while (status.ok() && cursor.Next()) {
      status = PassKey(cursor.key(), set->header().sequence);
    }
    // A set that was passed in part is passed again: what was dropped once is
    // not there to be dropped twice, since only its last key can fail.
    if (!status.ok()) break;
    if (set->header().is_link) {
      newly_left_log_segments_.push_back(position.segment);
    }
    position = reader.position();
  }
  // No crash may keep the new key_tail and not the marks.
  if (std::exchange(moved_marks_, false)) {
    RETURN_IF_ERROR(core_.barrier().Persist());
  }
  RETURN_IF_ERROR(
      core_.tails().AdvanceKeyTail(position, reader.incarnation()));
  return status;
}

absl::Status Reclaim::PassKey(const Key& key, SequenceNumber sequence) {
  if (key.kind == KeyKind::kLink || key.kind == KeyKind::kForget) {
    return absl::OkStatus();
  }
  const PieceSource source =
      SourceOf(core_.payload(), key, sequence, key.range.offset);
  if (key.kind == KeyKind::kLost) {
    // What is still lost stays so: the mark moves to the head of the log.
    moved_marks_ = true;
    return MarkLost(core_, key.range, source);
  }
  if (HasPayload(key.kind) &&
      core_.table().segment(key.position.segment).generation() !=
          key.generation) {
    return absl::OkStatus();  // of an old life (C7)
  }
  ForEachSlice(key.range, [&](const ShardSlice& slice) {
    Shard& shard = core_.shards()[slice.shard];
    absl::MutexLock lock(&shard.mutex);
    shard.index.RemoveIfFrom(
        slice.start, slice.length,
        source.Advanced((slice.offset - key.range.offset) / kSectorSize));
  });
  if (HasPayload(key.kind)) {
    core_.space().DropReference(key.position.segment);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SegmentId>> Reclaim::StoreFreed() {
  std::vector<SegmentId> freed;
  std::vector<SegmentId> pinned;
  for (const SegmentId id : core_.space().TakeUnreferenced()) {
    if (core_.table().segment(id).pinned()) {
      pinned.push_back(id);  // a reader is copying: next round
    } else {
      freed.push_back(id);
    }
  }
  core_.space().ReturnUnreferenced(pinned);
  freed.insert(freed.end(), left_log_segments_.begin(),
               left_log_segments_.end());
  for (const SegmentId id : freed) {
    RETURN_IF_ERROR(core_.table().StoreFreed(id));
  }
  return freed;
}

}  // namespace pcachefs
