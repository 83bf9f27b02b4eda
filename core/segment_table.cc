#include "core/segment_table.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/mutation.h"
#include "meta/slot_pair.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {

namespace {

// Stands for bytes that could not be read.
constexpr std::byte kUnreadable{0xff};

// Calls `visit(word, mask)` for each word of a bitmap that holds bits of the
// range.
template <typename Visit>
void ForEachWord(uint32_t first_block, uint32_t count, Visit visit) {
  for (uint32_t block = first_block; block < first_block + count;) {
    const uint32_t bit = block % 64;
    const uint32_t run = std::min(64 - bit, first_block + count - block);
    visit(block / 64,
          (run == 64 ? ~uint64_t{0} : (uint64_t{1} << run) - 1) << bit);
    block += run;
  }
}

}  // namespace

void Segment::SetDirty(uint32_t first_block, uint32_t count, bool dirty) {
  ForEachWord(first_block, count, [&](uint32_t word, uint64_t mask) {
    if (dirty) {
      dirty_[word].fetch_or(mask, std::memory_order_relaxed);
    } else {
      dirty_[word].fetch_and(~mask, std::memory_order_relaxed);
    }
  });
}

uint32_t Segment::MarkHit(uint32_t first_block, uint32_t count) {
  uint32_t used = 0;
  ForEachWord(first_block, count, [&](uint32_t word, uint64_t mask) {
    Marks& marks = marks_[word];
    if ((marks.hit.load(std::memory_order_relaxed) & mask) == mask) return;
    uint64_t first_use = 0;
    if ((marks.ahead.load(std::memory_order_relaxed) & mask) != 0) {
      first_use =
          marks.ahead.fetch_and(~mask, std::memory_order_relaxed) & mask;
    }
    used += std::popcount(first_use);
    marks.hit.fetch_or(mask & ~first_use, std::memory_order_relaxed);
  });
  return used;
}

void Segment::MarkReadAhead(uint32_t first_block, uint32_t count) {
  ForEachWord(first_block, count, [&](uint32_t word, uint64_t mask) {
    marks_[word].ahead.fetch_or(mask, std::memory_order_relaxed);
  });
}

uint32_t Segment::CountUnused(uint32_t first_block, uint32_t count) const {
  uint32_t unused = 0;
  ForEachWord(first_block, count, [&](uint32_t word, uint64_t mask) {
    unused += std::popcount(
        marks_[word].ahead.load(std::memory_order_relaxed) & mask);
  });
  return unused;
}

SegmentTable::SegmentTable(CacheDevice& device, const Geometry& geometry,
                           Barrier& barrier)
    : device_(device),
      barrier_(barrier),
      geometries_{geometry},
      geometry_(&geometries_.back()),
      chunks_(DivideRoundingUp(geometry.segment_capacity(), kChunk)) {
  MakeChunks(geometry.segment_count());
}

void SegmentTable::MakeChunks(uint32_t segment_count) {
  for (uint32_t i = 0; i * kChunk < segment_count; ++i) {
    if (chunks_[i] == nullptr) chunks_[i] = std::make_unique<Segment[]>(kChunk);
  }
}

absl::Status SegmentTable::StoreNewRecords(const Geometry& grown) {
  const uint32_t first = segment_count();
  const uint32_t count = grown.segment_count() - first;
  std::vector<std::byte> records(count * kSegmentRecordSize);
  for (int slot : {0, 1}) {
    const auto record = EncodeSlot(SegmentRecord{.generation = Generation(1)},
                                   /*update_number=*/1 + slot);
    for (size_t at = 0; at < records.size(); at += record.size()) {
      std::copy(record.begin(), record.end(), records.begin() + at);
    }
    RETURN_IF_ERROR(
        device_.Write(grown.segment_record(SegmentId(first), slot), records));
  }
  return absl::OkStatus();
}

void SegmentTable::Grow(const Geometry& grown) {
  absl::MutexLock lock(&mutex_);
  const uint32_t first = segment_count();
  MakeChunks(grown.segment_count());
  geometries_.push_back(grown);
  geometry_.store(&geometries_.back(), std::memory_order_release);
  for (uint32_t i = first; i < grown.segment_count(); ++i) {
    Segment& segment = this->segment(SegmentId(i));
    segment.record_ = {.generation = Generation(1)};
    segment.cursor_ = SlotCursor(/*newest_slot=*/1, /*update_number=*/2);
    segment.generation_ = 1;
    free_.push_back(SegmentId(i));
  }
}

std::map<ImageId, uint32_t> SegmentTable::UsedByOwner() {
  absl::MutexLock lock(&mutex_);
  std::map<ImageId, uint32_t> used;
  for (uint32_t i = 0; i < segment_count(); ++i) {
    const SegmentRecord& record = segment(SegmentId(i)).record_;
    if (record.use != SegmentUse::kFree) ++used[record.owner];
  }
  return used;
}

void SegmentTable::ReadTable(MediaOffset offset,
                             std::span<std::byte> table) {
  if (device_.Read(offset, table).ok()) return;
  // Sector by sector: a record that cannot be read is as good as a damaged
  // one, and the other copy may hold it. All ones is no valid record.
  for (size_t at = 0; at < table.size(); at += kSectorSize) {
    const auto sector =
        table.subspan(at, std::min<size_t>(kSectorSize, table.size() - at));
    if (!device_.Read(offset + at, sector).ok()) {
      std::fill(sector.begin(), sector.end(), kUnreadable);
    }
  }
}

absl::Status SegmentTable::Load() {
  std::array<std::vector<std::byte>, 2> tables;
  for (int slot : {0, 1}) {
    tables[slot].resize(geometry().segment_table_bytes());
    ReadTable(geometry().segment_table(slot), tables[slot]);
  }
  absl::MutexLock lock(&mutex_);
  for (uint32_t i = 0; i < segment_count(); ++i) {
    const size_t offset = i * kSegmentRecordSize;
    absl::StatusOr<SlotChoice<SegmentRecord>> choice =
        ChooseSlot<SegmentRecord>(
            std::span(tables[0]).subspan(offset, kSegmentRecordSize),
            std::span(tables[1]).subspan(offset, kSegmentRecordSize));
    if (!choice.ok()) {
      return absl::Status(
          choice.status().code() == absl::StatusCode::kNotFound
              ? absl::StatusCode::kDataLoss
              : choice.status().code(),
          absl::StrCat("segment ", i, ": ", choice.status().message()));
    }
    Segment& segment = this->segment(SegmentId(i));
    segment.record_ = choice->value;
    // Never used: its first life is the one that a format gives it.
    if (choice->value.generation == Generation(0)) {
      segment.record_.generation = Generation(1);
    }
    segment.cursor_ = SlotCursor(choice->slot, choice->update_number);
    segment.generation_ = segment.record_.generation.value();
    const auto in_use = std::span(tables[choice->slot])
                            .subspan(offset, kSegmentRecordSize);
    const auto other = std::span(tables[1 - choice->slot])
                           .subspan(offset, kSegmentRecordSize);
    // A slot that cannot be read is left alone: a store there may fail, after
    // which the device counts as broken.
    const bool is_readable =
        std::any_of(other.begin(), other.end(),
                    [](std::byte byte) { return byte != kUnreadable; });
    if (is_readable &&
        (!choice->other.ok() ||
         !std::equal(in_use.begin() + kRecordHeaderSize, in_use.end(),
                     other.begin() + kRecordHeaderSize))) {
      NoteUncopiedLocked(SegmentId(i));
    }
    if (segment.record_.use == SegmentUse::kFree) {
      free_.push_back(SegmentId(i));
    }
  }
  return absl::OkStatus();
}

absl::Status SegmentTable::FreeOrphans(
    const std::function<bool(ImageId, ImageTag)>& is_known) {
  absl::MutexLock lock(&mutex_);
  for (uint32_t i = 0; i < segment_count(); ++i) {
    Segment& segment = this->segment(SegmentId(i));
    if (segment.record_.use == SegmentUse::kFree ||
        is_known(segment.record_.owner, segment.record_.image)) {
      continue;
    }
    RETURN_IF_ERROR(StoreLocked(
        SegmentId(i),
        {.generation = Generation(segment.generation().value() + 1)}));
    free_.push_back(SegmentId(i));
  }
  return absl::OkStatus();
}

SegmentRecord SegmentTable::record(SegmentId id) {
  absl::MutexLock lock(&mutex_);
  return segment(id).record_;
}

absl::StatusOr<SegmentId> SegmentTable::Allocate(
    SegmentUse use, ImageId owner, ImageTag image,
    SequenceNumber first_sequence) {
  absl::MutexLock lock(&mutex_);
  if (free_.empty()) {
    return absl::ResourceExhaustedError("no free segment");
  }
  const SegmentId id = free_.front();
  RETURN_IF_ERROR(StoreLocked(id, {.generation = segment(id).generation(),
                                   .use = use,
                                   .owner = owner,
                                   .image = image,
                                   .first_sequence = first_sequence}));
  free_.pop_front();
  return id;
}

absl::Status SegmentTable::StoreFreed(SegmentId id) {
  absl::MutexLock lock(&mutex_);
  const uint32_t next_life =
      Planted(Mutation::kReuseInSameLife) ? 0 : 1;
  absl::Status stored =
      StoreLocked(id, {.generation = Generation(
                           segment(id).generation().value() + next_life)});
  if (!stored.ok()) barrier_.Poison(stored);
  return stored;
}

void SegmentTable::Release(std::span<const SegmentId> ids) {
  absl::MutexLock lock(&mutex_);
  for (const SegmentId id : ids) {
    if (!Planted(Mutation::kReclaimIgnoresReaders)) {
      segment(id).checksums_.reset();
      segment(id).dirty_.reset();
      segment(id).marks_.reset();
    }
    free_.push_back(id);
  }
}

bool SegmentTable::StoreCopies() {
  absl::MutexLock lock(&mutex_);
  bool stored = false;
  for (int i = 0; i < kCopiesAtOnce && !uncopied_.empty(); ++i) {
    const SegmentId id = uncopied_.front();
    Segment& copied = segment(id);
    // Before that, a store would go over the newest version itself (C6).
    if (!copied.cursor_.durable(barrier_)) break;
    uncopied_.pop_front();
    copied.has_copy_ = true;
    stored |= StoreSlot(device_, barrier_, Slots(id), copied.cursor_,
                        copied.record_)
                  .ok();
  }
  return stored;
}

std::vector<SegmentId> SegmentTable::OwnedBy(ImageId owner, ImageTag image) {
  absl::MutexLock lock(&mutex_);
  std::vector<SegmentId> owned;
  for (uint32_t i = 0; i < segment_count(); ++i) {
    const SegmentRecord& record = segment(SegmentId(i)).record_;
    if (record.use != SegmentUse::kFree && record.owner == owner &&
        record.image == image) {
      owned.push_back(SegmentId(i));
    }
  }
  return owned;
}

void SegmentTable::Forget(std::span<const SegmentId> ids) {
  absl::MutexLock lock(&mutex_);
  for (const SegmentId id : ids) {
    segment(id).references_ = 0;
    segment(id).checksums_.reset();
    segment(id).dirty_.reset();
    segment(id).marks_.reset();
  }
}

void SegmentTable::PreparePayload(SegmentId id) {
  Segment& prepared = segment(id);
  const uint32_t blocks = geometry().blocks_per_segment();
  prepared.checksums_ = std::make_unique<uint32_t[]>(blocks);
  prepared.dirty_ = std::make_unique<std::atomic<uint64_t>[]>(blocks / 64);
  prepared.marks_ = std::make_unique<Segment::Marks[]>(blocks / 64);
}

uint32_t SegmentTable::free_count() {
  absl::MutexLock lock(&mutex_);
  return free_.size();
}

absl::Status SegmentTable::StoreLocked(SegmentId id,
                                       const SegmentRecord& record) {
  Segment& stored = segment(id);
  RETURN_IF_ERROR(
      StoreSlot(device_, barrier_, Slots(id), stored.cursor_, record));
  stored.record_ = record;
  stored.generation_.store(record.generation.value(),
                           std::memory_order_release);
  NoteUncopiedLocked(id);
  return absl::OkStatus();
}

void SegmentTable::NoteUncopiedLocked(SegmentId id) {
  if (!std::exchange(segment(id).has_copy_, false)) return;
  uncopied_.push_back(id);
}

}  // namespace pcachefs
