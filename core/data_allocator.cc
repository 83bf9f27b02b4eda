#include "core/data_allocator.h"

#include <algorithm>
#include <atomic>

#include "meta/status_macros.h"

namespace pcachefs {
namespace {

// Threads are numbered as they first allocate.
uint32_t ThreadNumber() {
  static std::atomic<uint32_t> count{0};
  thread_local const uint32_t number = count++;
  return number;
}

}  // namespace

DataAllocator::DataAllocator(ImageSpace& space, uint32_t cursor_count)
    : space_(space) {
  for (uint32_t i = 0; i < cursor_count + 1; ++i) {
    cursors_.push_back(std::make_unique<Cursor>());
  }
}

absl::StatusOr<Allocation> DataAllocator::Allocate(uint32_t block_count,
                                                  AllocationPurpose purpose) {
  Cursor& cursor = purpose == AllocationPurpose::kCarry
                       ? *cursors_.back()
                       : *cursors_[ThreadNumber() % (cursors_.size() - 1)];
  SegmentTable& table = space_.table();
  const uint32_t blocks_per_segment = table.geometry().blocks_per_segment();

  absl::MutexLock lock(&cursor.mutex);
  if (cursor.open && cursor.next_block == blocks_per_segment) {
    CloseLocked(cursor);
  }
  if (!cursor.open) {
    ASSIGN_OR_RETURN(cursor.segment, space_.TakePayload(purpose));
    table.segment(cursor.segment).AddReference();
    cursor.next_block = 0;
    cursor.open = true;
  }
  Segment& segment = table.segment(cursor.segment);
  const Allocation allocation = {
      .segment = cursor.segment,
      .generation = segment.generation(),
      .first_block = cursor.next_block,
      .block_count =
          std::min(block_count, blocks_per_segment - cursor.next_block)};
  segment.AddReference();
  cursor.next_block += allocation.block_count;
  return allocation;
}

uint64_t DataAllocator::carry_rest() {
  Cursor& cursor = *cursors_.back();
  absl::MutexLock lock(&cursor.mutex);
  if (!cursor.open) return 0;
  return (space_.table().geometry().blocks_per_segment() - cursor.next_block) *
         kBlockSize;
}

void DataAllocator::Abandon(const Allocation& allocation) {
  space_.DropReference(allocation.segment);
}

void DataAllocator::CloseCursors() {
  for (auto& cursor : cursors_) {
    absl::MutexLock lock(&cursor->mutex);
    if (cursor->open) CloseLocked(*cursor);
  }
}

void DataAllocator::CloseLocked(Cursor& cursor) {
  cursor.open = false;
  space_.DropReference(cursor.segment);
}

}  // namespace pcachefs
