#include "core/key_log.h"

#include <algorithm>
#include <utility>

#include "glog/logging.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {

KeyLog::KeyLog(CacheDevice& device, ImageSpace& space, Barrier& barrier,
               ImageTag image, const Start& start)
    : device_(device),
      space_(space),
      barrier_(barrier),
      image_(image),
      incarnation_(start.incarnation),
      head_(start.head),
      last_dirty_(start.head.sequence - 1),
      last_unmarked_(start.head.sequence - 1),
      durable_(start.durable),
      buffer_(std::make_unique<std::array<std::byte, kMaxKeySetSize>>()) {}

absl::StatusOr<SequenceNumber> KeyLog::Append(
    std::span<const PendingKey> keys) {
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(status_);
  absl::StatusOr<SequenceNumber> sequence = AppendLocked(keys);
  if (!sequence.ok() && !absl::IsResourceExhausted(sequence.status())) {
    // What the media holds at the head is unknown: an append behind it could be
    // unreachable for replay.
    status_ = sequence.status();
    barrier_.Poison(status_);
  }
  return sequence;
}

absl::StatusOr<SequenceNumber> KeyLog::AppendLocked(
    std::span<const PendingKey> keys) {
  KeySetBuilder builder(*buffer_);
  bool dirty = false;
  bool is_marks = true;
  for (const PendingKey& pending : keys) {
    CHECK(builder.Add(pending.key, pending.checksums)) << "key set too large";
    dirty |= IsDirty(pending.key.kind);
    is_marks &= pending.key.kind == KeyKind::kLost;
  }
  // What is left of the last segment is for marks too.
  if (!is_marks && space_.is_overdrawn()) {
    return absl::ResourceExhaustedError("the image's share is used up");
  }
  // A link must fit behind every set.
  const uint32_t segment_size = space_.table().geometry().segment_size();
  if (head_.offset.value() + builder.size() + kLinkSetSize > segment_size) {
    RETURN_IF_ERROR(RollLocked(is_marks));
    return AppendLocked(keys);
  }
  const SequenceNumber sequence = head_.sequence;
  RETURN_IF_ERROR(WriteSetLocked(builder, /*is_link=*/false));
  if (dirty) last_dirty_ = sequence;
  if (!is_marks) last_unmarked_ = sequence;
  return sequence;
}

absl::Status KeyLog::RollLocked(bool for_marks) {
  ASSIGN_OR_RETURN(const SegmentId next,
                   space_.TakeLog(head_.sequence + 1, for_marks));
  const Generation generation = space_.table().segment(next).generation();
  std::array<std::byte, kLinkSetSize> buffer;
  KeySetBuilder builder(buffer);
  CHECK(builder.Add({.kind = KeyKind::kLink,
                     .position = {.segment = next},
                     .generation = generation},
                    {}));
  RETURN_IF_ERROR(WriteSetLocked(builder, /*is_link=*/true));
  head_.segment = next;
  head_.offset = SegmentOffset(0);
  head_.generation = generation;
  return absl::OkStatus();
}

absl::Status KeyLog::WriteSetLocked(KeySetBuilder& builder, bool is_link) {
  const std::span<const std::byte> set =
      builder.Seal({.sequence = head_.sequence,
                    .incarnation = incarnation_,
                    .begins_epoch = epoch_ended_ && !is_link,
                    .is_link = is_link,
                    .image = image_,
                    .durable = durable_});
  RETURN_IF_ERROR(BlankPagesLocked(set.size()));
  RETURN_IF_ERROR(device_.Write(
      space_.table().geometry().position({head_.segment, head_.offset}), set));
  if (!is_link) epoch_ended_ = false;
  head_.offset += set.size();
  head_.sequence += 1;
  return absl::OkStatus();
}

void KeyLog::Close() {
  absl::MutexLock lock(&mutex_);
  if (status_.ok()) status_ = absl::UnavailableError("the cache is closed");
}

absl::Status KeyLog::BlankPagesLocked(size_t length) {
  const uint32_t begin = RoundUp(head_.offset.value(), kBlockSize);
  const uint32_t end = RoundUp(head_.offset.value() + length, kBlockSize);
  static constexpr std::array<std::byte, kBlockSize> kBlank = {};
  for (uint32_t at = begin; at < end; at += kBlockSize) {
    RETURN_IF_ERROR(device_.Write(space_.table().geometry().position(
                                      {head_.segment, SegmentOffset(at)}),
                                  kBlank));
  }
  return absl::OkStatus();
}

SequenceNumber KeyLog::EndEpoch() {
  absl::MutexLock lock(&mutex_);
  epoch_ended_ = true;
  last_epoch_end_ = head_.sequence - 1;
  return last_dirty_;
}

SequenceNumber KeyLog::last_epoch_end() {
  absl::MutexLock lock(&mutex_);
  return last_epoch_end_;
}

LogPosition KeyLog::head() {
  absl::MutexLock lock(&mutex_);
  return head_;
}

SequenceNumber KeyLog::last_dirty() {
  absl::MutexLock lock(&mutex_);
  return last_dirty_;
}

SequenceNumber KeyLog::last_unmarked() {
  absl::MutexLock lock(&mutex_);
  return last_unmarked_;
}

SequenceNumber KeyLog::last() {
  absl::MutexLock lock(&mutex_);
  return head_.sequence - 1;
}

SequenceNumber KeyLog::durable() {
  absl::MutexLock lock(&mutex_);
  return durable_;
}

void KeyLog::MarkDurable(SequenceNumber sequence) {
  absl::MutexLock lock(&mutex_);
  durable_ = std::max(durable_, sequence);
}

}  // namespace pcachefs
