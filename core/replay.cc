#include "core/replay.h"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/index_loader.h"
#include "core/log_reader.h"
#include "core/mutation.h"
#include "core/publish.h"
#include "meta/crc32c.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// A position is remembered every so many sets, to start the payload check near
// where it begins.
constexpr uint64_t kSetsPerCheckpoint = 1024;

absl::Status Damaged(const ImageRecord& record, const LogPosition& position,
                     absl::string_view what) {
  return absl::DataLossError(absl::StrCat(
      "image ", record.name, ": key log damaged in segment ",
      position.segment.value(), " at ", position.offset.value(),
      ": no valid key set ", position.sequence.value(), ", but ", what));
}

class EndFinder {
 public:
  EndFinder(CacheDevice& device, SegmentTable& segments,
            const ImageRecord& record, const LogTails& tails)
      : device_(device), segments_(segments), record_(record), tails_(tails) {}

  absl::StatusOr<LogEnd> Find() {
    RETURN_IF_ERROR(CheckTail(tails_.key_tail, "key_tail"));
    RETURN_IF_ERROR(CheckTail(tails_.dirty_tail, "dirty_tail"));
    RETURN_IF_ERROR(Walk());
    RETURN_IF_ERROR(TellDamageFromEnd());
    if (!Planted(Mutation::kReplayTrustsPayload)) {
      RETURN_IF_ERROR(CheckUncoveredPayload());
    }
    if (end_.head.sequence < tails_.dirty_tail.sequence) {
      return Damaged(record_, end_.head,
                     absl::StrCat("dirty_tail is at key set ",
                                  tails_.dirty_tail.sequence.value()));
    }
    return end_;
  }

 private:
  LogReader ReaderAt(const LogPosition& position) {
    return LogReader(device_, segments_,
                     {.image = record_.uuid.tag(),
                      .image_size = record_.size,
                      .position = position,
                      .min_incarnation = tails_.tail_incarnation});
  }

  absl::Status CheckTail(const LogPosition& position, absl::string_view what) {
    RETURN_IF_ERROR(
        ValidateLogPosition(position, segments_.geometry(), what));
    const SegmentRecord segment = segments_.record(position.segment);
    if (segment.use != SegmentUse::kLog ||
        segment.image != record_.uuid.tag() ||
        segment.generation != position.generation) {
      return absl::DataLossError(absl::StrCat(
          "image ", record_.name, ": ", what, " points into segment ",
          position.segment.value(), " generation ",
          position.generation.value(), ", which is ", Name(segment.use),
          ", generation ", segment.generation.value()));
    }
    return absl::OkStatus();
  }

  // Writeback starts there, so it must be where that set really stands.
  absl::Status CheckDirtyTail(const LogPosition& position) {
    const LogPosition& dirty_tail = tails_.dirty_tail;
    if (position.sequence != dirty_tail.sequence || position == dirty_tail) {
      return absl::OkStatus();
    }
    return absl::DataLossError(absl::StrCat(
        "image ", record_.name, ": dirty_tail points into segment ",
        dirty_tail.segment.value(), " at ", dirty_tail.offset.value(),
        ", but key set ", position.sequence.value(), " stands in segment ",
        position.segment.value(), " at ", position.offset.value()));
  }

  absl::Status Walk() {
    LogReader reader = ReaderAt(tails_.key_tail);
    if (tails_.committed > SequenceNumber(0)) {
      end_.proven = tails_.committed - 1;
    }
    while (true) {
      if (end_.key_sets % kSetsPerCheckpoint == 0) {
        checkpoints_.push_back(reader.position());
      }
      RETURN_IF_ERROR(CheckDirtyTail(reader.position()));
      const absl::StatusOr<KeySetView> set = reader.Next();
      // Either may be the torn end, or damage: what is proven tells.
      if (absl::IsNotFound(set.status()) ||
          absl::IsFailedPrecondition(set.status())) {
        break;
      }
      if (!set.ok()) {
        return absl::Status(set.status().code(),
                            absl::StrCat("image ", record_.name, ": ",
                                         set.status().message()));
      }
      ++end_.key_sets;
      end_.keys += set->header().key_count;
      end_.proven = std::max(end_.proven, set->header().durable);
    }
    end_.head = reader.position();
    end_.incarnation = reader.incarnation();
    return absl::OkStatus();
  }

  absl::Status TellDamageFromEnd() {
    const SequenceNumber missing = end_.head.sequence;
    if (end_.proven >= missing) {
      return Damaged(record_, end_.head,
                     absl::StrCat("sets up to ", end_.proven.value(),
                                  " were durable"));
    }
    if (tails_.clean_stop && tails_.key_head.sequence != missing) {
      return Damaged(record_, end_.head,
                     absl::StrCat("the clean stop left key_head at ",
                                  tails_.key_head.sequence.value()));
    }
    std::vector<CachePosition> places = {
        {end_.head.segment, end_.head.offset}};
    for (const SegmentId id : OwnLogSegments()) {
      if (segments_.record(id).first_sequence > missing) {
        places.push_back({id, SegmentOffset(0)});
      }
    }
    for (const CachePosition& place : places) {
      ASSIGN_OR_RETURN(
          const SequenceNumber proven,
          LogReader::FindProofOfDurability(device_, segments_.geometry(),
                                           record_.uuid.tag(), place,
                                           missing));
      if (proven < missing) continue;
      return Damaged(record_, end_.head,
                     absl::StrCat("a later set in segment ",
                                  place.segment.value(), " proves that sets "
                                  "up to ", proven.value(), " were durable"));
    }
    return absl::OkStatus();
  }

  std::vector<SegmentId> OwnLogSegments() {
    std::vector<SegmentId> own;
    for (uint32_t i = 0; i < segments_.segment_count(); ++i) {
      const SegmentRecord record = segments_.record(SegmentId(i));
      if (record.use == SegmentUse::kLog &&
          record.image == record_.uuid.tag()) {
        own.push_back(SegmentId(i));
      }
    }
    return own;
  }

  // Payload of keys that no barrier is known to have covered may be missing
  // though the key is there (C1): the log ends before the first such set.
  absl::Status CheckUncoveredPayload() {
    LogPosition start = tails_.key_tail;
    for (const LogPosition& checkpoint : checkpoints_) {
      if (checkpoint.sequence <= end_.proven + 1) start = checkpoint;
    }
    LogReader reader = ReaderAt(start);
    while (reader.position().sequence < end_.head.sequence) {
      const LogPosition position = reader.position();
      const Incarnation before = reader.incarnation();
      ASSIGN_OR_RETURN(const KeySetView set, reader.Next());
      if (set.header().sequence <= end_.proven) continue;
      ASSIGN_OR_RETURN(const bool complete, PayloadIsThere(set));
      if (complete) continue;
      end_.dropped_key_sets =
          end_.head.sequence.value() - position.sequence.value();
      end_.key_sets -= end_.dropped_key_sets;
      end_.head = position;
      end_.incarnation = before;
      return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  absl::StatusOr<bool> PayloadIsThere(const KeySetView& set) {
    KeySetView::Cursor cursor(set);
    while (cursor.Next()) {
      const Key& key = cursor.key();
      if (!HasPayload(key.kind)) continue;
      const SegmentRecord segment = segments_.record(key.position.segment);
      if (segment.generation != key.generation) continue;
      // No barrier covered the segment's record either.
      if (segment.use != SegmentUse::kPayload ||
          segment.image != record_.uuid.tag()) {
        return false;
      }
      const uint32_t blocks = PayloadBlocks(key);
      buffer_.resize(blocks * kBlockSize);
      RETURN_IF_ERROR(device_.Read(
          segments_.geometry().position(key.position), buffer_));
      end_.verified_bytes += buffer_.size();
      for (uint32_t i = 0; i < blocks; ++i) {
        if (Crc32c(std::span(buffer_).subspan(i * kBlockSize, kBlockSize)) !=
            cursor.crc(i)) {
          return false;
        }
      }
    }
    return true;
  }

  CacheDevice& device_;
  SegmentTable& segments_;
  const ImageRecord& record_;
  const LogTails& tails_;
  LogEnd end_;
  std::vector<LogPosition> checkpoints_;
  std::vector<std::byte> buffer_;
};

// More would wait for the one that decodes.
constexpr uint32_t kMostLoaders = 4;

uint32_t LoaderCount(ImageCore& core, SequenceNumber end) {
  // Not worth a thread.
  constexpr uint64_t kFewSets = 10000;
  if (!core.options().start_threads ||
      end - core.tails().key_tail().sequence < kFewSets) {
    return 0;
  }
  return std::clamp(std::thread::hardware_concurrency(), 1u, kMostLoaders);
}

class Applier {
 public:
  Applier(ImageCore& core, ImageStatus::Replay& found)
      : core_(core),
        found_(found),
        dirty_tail_(core.tails().dirty_tail().sequence),
        end_(core.log().head().sequence),
        lives_(core.table().segment_count()),
        loader_(core.shards(), LoaderCount(core, end_)) {}

  absl::Status Apply() {
    const LogPosition tail = core_.tails().key_tail();
    LogReader reader(core_.device(), core_.table(),
                     {.image = core_.tag(),
                      .image_size = core_.size(),
                      .position = tail,
                      .min_incarnation = core_.tails().tail_incarnation()});
    log_segments_.insert(tail.segment.value());
    while (reader.position().sequence < end_) {
      ASSIGN_OR_RETURN(const KeySetView set, reader.Next());
      ++found_.key_sets;
      KeySetView::Cursor cursor(set);
      while (cursor.Next()) {
        RETURN_IF_ERROR(ApplyKey(cursor, set.header().sequence));
      }
      if (set.header().is_link) {
        log_segments_.insert(reader.position().segment.value());
      }
    }
    loader_.Finish();
    core_.dirty_bytes() += dirty_bytes_;
    core_.throttle().AddDirty(dirty_blocks_);
    if (void_new_ && !Planted(Mutation::kProvisionalNeverVoid)) {
      core_.tails().VoidProvisional(end_);
    }
    AdoptSegments();
    return absl::OkStatus();
  }

 private:
  absl::Status ApplyKey(const KeySetView::Cursor& cursor,
                        SequenceNumber sequence) {
    const Key& key = cursor.key();
    ++found_.keys;
    if (key.kind == KeyKind::kLink) return absl::OkStatus();
    if (HasPayload(key.kind)) {
      ASSIGN_OR_RETURN(const bool alive, IsAlive(key, sequence));
      if (!alive) {
        // Reclaim had passed it, so the backing device has the range; what
        // older keys say of it is older still.
        ++found_.stale_keys;
        if (Planted(Mutation::kStaleKeyLeavesOlderKeys)) {
          return absl::OkStatus();
        }
        Insert(key, sequence, /*remove=*/true);
        return absl::OkStatus();
      }
      TakeReference(cursor);
    }
    bool remove = key.kind == KeyKind::kForget;
    if (key.kind == KeyKind::kProvisional &&
        !Planted(Mutation::kProvisionalAtOnce) &&
        !core_.tails().ProvisionalCounts(sequence)) {
      remove = true;
      // dirty_tail will pass it, and it must not count then.
      void_new_ |= sequence >= dirty_tail_;
    }
    Insert(key, sequence, remove);
    if (IsDirty(key.kind) && sequence >= dirty_tail_) {
      dirty_bytes_ += key.range.length;
      if (HasPayload(key.kind)) {
        dirty_blocks_ += PayloadBlocks(key);
        core_.table()
            .segment(key.position.segment)
            .SetDirty(key.position.offset.value() / kBlockSize,
                      PayloadBlocks(key), true);
      }
    }
    return absl::OkStatus();
  }

  // False if the key is of an old life of its segment (C7).
  absl::StatusOr<bool> IsAlive(const Key& key, SequenceNumber sequence) {
    const SegmentId id = key.position.segment;
    Generation& life = lives_[id.value()];
    if (key.generation == life) return true;
    if (key.generation < core_.table().segment(id).generation() &&
        !Planted(Mutation::kReplayIgnoresGenerations)) {
      return false;
    }
    const SegmentRecord record = core_.table().record(id);
    if (key.generation != record.generation ||
        record.use != SegmentUse::kPayload || record.image != core_.tag()) {
      return absl::DataLossError(absl::StrCat(
          "image ", core_.name(), ": key set ", sequence.value(),
          " names segment ", id.value(), " generation ",
          key.generation.value(), " for payload, but its record says ",
          Name(record.use), ", generation ", record.generation.value(),
          ", image tag ", record.image.value()));
    }
    if (core_.table().segment(id).checksums() == nullptr) {
      core_.table().PreparePayload(id);
    }
    life = key.generation;
    return true;
  }

  void TakeReference(const KeySetView::Cursor& cursor) {
    const Key& key = cursor.key();
    Segment& segment = core_.table().segment(key.position.segment);
    const uint32_t first = key.position.offset.value() / kBlockSize;
    for (uint32_t i = 0; i < PayloadBlocks(key); ++i) {
      segment.checksums()[first + i] = cursor.crc(i);
    }
    segment.AddReference();
  }

  void Insert(const Key& key, SequenceNumber sequence, bool remove) {
    ForEachSlice(key.range, [&](const ShardSlice& slice) {
      if (remove) {
        loader_.Remove(slice);
      } else {
        loader_.Insert(slice, SourceOf(core_.payload(), key, sequence,
                                       slice.offset));
      }
    });
  }

  // Everything that records give to the image counts against its share; what
  // the log does not name is free to be reclaimed.
  void AdoptSegments() {
    std::vector<SegmentId> unreferenced;
    const std::vector<SegmentId> owned =
        core_.table().OwnedBy(core_.id(), core_.tag());
    for (const SegmentId id : owned) {
      const bool in_log = log_segments_.contains(id.value());
      if (!in_log && core_.table().segment(id).references() == 0) {
        unreferenced.push_back(id);
      }
    }
    core_.space().Adopt(owned.size());
    core_.space().ReturnUnreferenced(unreferenced);
  }

  ImageCore& core_;
  ImageStatus::Replay& found_;
  const SequenceNumber dirty_tail_;
  const SequenceNumber end_;
  uint64_t dirty_bytes_ = 0;
  uint64_t dirty_blocks_ = 0;
  bool void_new_ = false;
  std::set<uint32_t> log_segments_;
  // By segment, of payload segments that are this image's: the life they are
  // in. None if no key of it was met yet.
  std::vector<Generation> lives_;
  IndexLoader loader_;
};

}  // namespace

absl::StatusOr<LogEnd> FindLogEnd(CacheDevice& device, SegmentTable& segments,
                                  const ImageRecord& record,
                                  const LogTails& tails) {
  return EndFinder(device, segments, record, tails).Find();
}

absl::Status ReplayLog(ImageCore& core, ImageStatus::Replay& found) {
  return Applier(core, found).Apply();
}

}  // namespace pcachefs
