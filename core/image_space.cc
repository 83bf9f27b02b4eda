#include "core/image_space.h"

#include <algorithm>
#include <utility>

namespace pcachefs {

uint32_t ImageSpace::PayloadLimit(AllocationPurpose purpose) const {
  const uint32_t reserve =
      kLogReserve +
      (purpose == AllocationPurpose::kCarry ? 0 : carry_reserve_);
  const uint32_t share = share_;
  return share - std::min(share, reserve);
}

absl::StatusOr<SegmentId> ImageSpace::TakePayload(AllocationPurpose purpose) {
  if (!Count(PayloadLimit(purpose))) {
    return absl::ResourceExhaustedError("the image's share is used up");
  }
  absl::StatusOr<SegmentId> id = table_.Allocate(SegmentUse::kPayload, owner_,
                                                 image_, SequenceNumber(0));
  if (id.ok()) {
    table_.PreparePayload(*id);
  } else {
    --used_;
  }
  return id;
}

absl::StatusOr<SegmentId> ImageSpace::TakeLog(SequenceNumber first_sequence,
                                              bool for_marks) {
  const uint32_t share = share_;
  const uint32_t reserve = 1 + (is_carrying_ ? 0 : carry_reserve_);
  if (!Count(for_marks ? share : share - std::min(share, reserve))) {
    return absl::ResourceExhaustedError("the image's share is used up");
  }
  absl::StatusOr<SegmentId> id =
      table_.Allocate(SegmentUse::kLog, owner_, image_, first_sequence);
  if (!id.ok()) --used_;
  return id;
}

void ImageSpace::DropReference(SegmentId id) {
  if (!table_.segment(id).DropReference()) return;
  absl::MutexLock lock(&mutex_);
  unreferenced_.push_back(id);
}

std::vector<SegmentId> ImageSpace::TakeUnreferenced() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(unreferenced_, {});
}

bool ImageSpace::has_unreferenced() {
  absl::MutexLock lock(&mutex_);
  return !unreferenced_.empty();
}

size_t ImageSpace::freeable_count() {
  absl::MutexLock lock(&mutex_);
  return std::count_if(
      unreferenced_.begin(), unreferenced_.end(),
      [this](SegmentId id) { return !table_.segment(id).pinned(); });
}

void ImageSpace::ReturnUnreferenced(std::span<const SegmentId> ids) {
  absl::MutexLock lock(&mutex_);
  unreferenced_.insert(unreferenced_.end(), ids.begin(), ids.end());
}

uint32_t ImageSpace::payload_left() const {
  const uint32_t limit = PayloadLimit(AllocationPurpose::kRequest);
  return limit - std::min<uint32_t>(limit, used_);
}

uint32_t ImageSpace::carry_left() const {
  const uint32_t limit = PayloadLimit(AllocationPurpose::kCarry);
  return limit - std::min<uint32_t>(limit, used_);
}

bool ImageSpace::Count(uint32_t limit) {
  uint32_t used = used_;
  do {
    if (used >= limit) return false;
  } while (!used_.compare_exchange_weak(used, used + 1));
  return true;
}

}  // namespace pcachefs
