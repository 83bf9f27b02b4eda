#include "core/reclaim.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/log_reader.h"
#include "core/mutation.h"
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
  const bool lagged = core_.set_reclaim_lags(true);
  absl::Status status = PassKeySets();
  const bool moved = core_.tails().key_tail().sequence != before.sequence;
  // What was passed before a failure can be freed all the same.
  if (Planted(Mutation::kFreeLogSegmentAtOnce)) {
    left_log_segments_.insert(left_log_segments_.end(),
                              newly_left_log_segments_.begin(),
                              newly_left_log_segments_.end());
    newly_left_log_segments_.clear();
  }
  absl::StatusOr<std::vector<SegmentId>> freed = StoreFreed();
  if (freed.ok() && (moved || !freed->empty()) &&
      !Planted(Mutation::kReuseBeforeBarrier)) {
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
  // A round that failed may have taken a part of a set out of the index: the
  // next one that moves has passed it.
  if (status.ok() && (moved || !lagged)) core_.set_reclaim_lags(false);
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
  // A log of nothing but marks would only be written again, for ever.
  if (core_.log().last_unmarked() < core_.tails().key_tail().sequence &&
      left_log_segments_.empty() && core_.space().freeable_count() == 0) {
    return false;
  }
  if (core_.write_path().has_waiting() &&
      !Planted(Mutation::kReclaimIgnoresWriters)) {
    return true;
  }
  // Its reserve may leave less to requests than gc_percent.
  if (core_.read_only_backing() && core_.space().payload_left() == 0) {
    return true;
  }
  const uint64_t used = core_.space().used();
  return used * 100 >= uint64_t{core_.space().share()} *
                           static_cast<uint64_t>(core_.settings().gc_percent());
}

absl::Status Reclaim::PassKeySets() {
  LogPosition dirty_tail = core_.tails().dirty_tail();
  if (Planted(Mutation::kKeyTailPassesDirtyTail)) {
    dirty_tail = core_.log().head();
  }
  LogPosition position = core_.tails().key_tail();
  if (position.sequence >= dirty_tail.sequence) return absl::OkStatus();
  // A thirty-second of the share in one round, at least one segment. Those that
  // a reader holds do not count: he may hold them for ever.
  const size_t wanted = std::max<size_t>(1, core_.space().share() / 32);
  LogReader reader(core_.device(), core_.table(),
                   {.image = core_.tag(),
                    .image_size = core_.size(),
                    .position = position,
                    .min_incarnation = core_.tails().tail_incarnation()});
  absl::Status status;
  for (uint64_t sets = 0;
       sets < kMaxSets && position.sequence < dirty_tail.sequence &&
       core_.space().freeable_count() + newly_left_log_segments_.size() <
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
    status = PassSet(*set);
    if (!status.ok()) break;
    if (set->header().is_link) {
      newly_left_log_segments_.push_back(position.segment);
    }
    position = reader.position();
  }
  // No room for marks: with the log segments that were left before it there
  // will be.
  if (absl::IsResourceExhausted(status)) status = absl::OkStatus();
  // No crash may keep the new key_tail and not the marks.
  if (std::exchange(moved_marks_, false)) {
    RETURN_IF_ERROR(core_.barrier().Persist());
  }
  RETURN_IF_ERROR(
      core_.tails().AdvanceKeyTail(position, reader.incarnation()));
  return status;
}

absl::Status Reclaim::PassSet(const KeySetView& set) {
  RETURN_IF_ERROR(MoveMarks(set));
  KeySetView::Cursor cursor(set);
  while (cursor.Next()) PassKey(cursor.key(), set.header().sequence);
  return absl::OkStatus();
}

absl::Status Reclaim::MoveMarks(const KeySetView& set) {
  // All of a set at once: they go into one set again, so the log does not grow.
  ImageOffset begin, end;
  KeySetView::Cursor cursor(set);
  bool found = false;
  while (cursor.Next()) {
    const Key& key = cursor.key();
    if (key.kind != KeyKind::kLost) continue;
    begin = found ? std::min(begin, key.range.offset) : key.range.offset;
    end = found ? std::max(end, key.range.end()) : key.range.end();
    found = true;
  }
  if (!found) return absl::OkStatus();
  moved_marks_ = true;
  return MarkLost(core_, {begin, end - begin},
                  PieceSource::Lost(set.header().sequence));
}

void Reclaim::PassKey(const Key& key, SequenceNumber sequence) {
  if (key.kind == KeyKind::kLink || key.kind == KeyKind::kLost ||
      key.kind == KeyKind::kForget) {
    return;
  }
  if (HasPayload(key.kind) &&
      core_.table().segment(key.position.segment).generation() !=
          key.generation &&
      !(Planted(Mutation::kReclaimIgnoresGenerations) &&
        core_.table().segment(key.position.segment).references() > 0)) {
    return;  // of an old life (C7)
  }
  const PieceSource source =
      SourceOf(core_.payload(), key, sequence, key.range.offset);
  if (HasPayload(key.kind)) second_life_.MoveHit(key, source);
  uint64_t dropped = 0;
  ForEachSlice(key.range, [&](const ShardSlice& slice) {
    Shard& shard = core_.shards()[slice.shard];
    absl::MutexLock lock(&shard.mutex);
    dropped += shard.index.RemoveIfFrom(
        slice.start, slice.length,
        source.Advanced((slice.offset - key.range.offset) / kSectorSize));
  });
  if (!HasPayload(key.kind)) return;
  Segment& segment = core_.table().segment(key.position.segment);
  core_.counters().Add(
      Counter::kReadAheadWastedBytes,
      kBlockSize * segment.CountUnused(
                       key.position.offset.value() / kBlockSize,
                       PayloadBlocks(key)));
  if (dropped > 0) {
    core_.counters().Add(Counter::kEvictions);
    core_.counters().Add(Counter::kEvictedBytes, dropped * kSectorSize);
  }
  core_.space().DropReference(key.position.segment);
}

absl::StatusOr<std::vector<SegmentId>> Reclaim::StoreFreed() {
  std::vector<SegmentId> freed;
  std::vector<SegmentId> pinned;
  for (const SegmentId id : core_.space().TakeUnreferenced()) {
    if (core_.table().segment(id).pinned() &&
        !Planted(Mutation::kReclaimIgnoresReaders)) {
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
