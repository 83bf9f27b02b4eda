// LogTails: docs/on_media_format.md section 6.

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "meta/endian.h"
#include "meta/geometry.h"
#include "meta/key_set.h"
#include "meta/record_field.h"
#include "meta/records.h"
#include "meta/status_macros.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

constexpr uint32_t kFlagCleanStop = 1;
constexpr size_t kKeyTailOffset = 24;
constexpr size_t kDirtyTailOffset = 48;
constexpr size_t kKeyHeadOffset = 72;
constexpr uint64_t kPositionAlignment = 8;

void StorePosition(std::span<std::byte> record, size_t offset,
                   const LogPosition& position) {
  StoreLittle<uint32_t>(record, offset, position.segment.value());
  StoreLittle<uint32_t>(record, offset + 4, position.offset.value());
  StoreLittle<uint32_t>(record, offset + 8, position.generation.value());
  StoreLittle<uint64_t>(record, offset + 16, position.sequence.value());
}

LogPosition LoadPosition(std::span<const std::byte> record, size_t offset) {
  return {
      .segment = SegmentId(LoadLittle<uint32_t>(record, offset)),
      .offset = SegmentOffset(LoadLittle<uint32_t>(record, offset + 4)),
      .generation = Generation(LoadLittle<uint32_t>(record, offset + 8)),
      .sequence = SequenceNumber(LoadLittle<uint64_t>(record, offset + 16)),
  };
}

absl::Status CheckOrder(const LogPosition& earlier,
                        absl::string_view earlier_name,
                        const LogPosition& later,
                        absl::string_view later_name) {
  if (earlier.sequence <= later.sequence) return absl::OkStatus();
  return FieldError(
      LogTails::kName, earlier_name, earlier.sequence.value(),
      absl::StrCat("at most ", later_name, " ", later.sequence.value()));
}

}  // namespace

void LogTails::EncodeBody(std::span<std::byte> record) const {
  ABSL_HARDENING_ASSERT(key_tail.sequence <= dirty_tail.sequence);
  ABSL_HARDENING_ASSERT(dirty_tail.sequence <= key_head.sequence);
  StoreLittle<uint64_t>(record, 16, image.value());
  StorePosition(record, kKeyTailOffset, key_tail);
  StorePosition(record, kDirtyTailOffset, dirty_tail);
  StorePosition(record, kKeyHeadOffset, key_head);
  StoreLittle<uint64_t>(record, 96, committed.value());
  StoreLittle<uint32_t>(record, 104, clean_stop ? kFlagCleanStop : 0);
  StoreLittle<uint32_t>(record, 108, tail_incarnation.value());
  StoreLittle<uint64_t>(record, 112, void_begin.value());
  StoreLittle<uint64_t>(record, 120, void_end.value());
}

absl::StatusOr<LogTails> LogTails::DecodeBody(
    std::span<const std::byte> record) {
  LogTails tails;
  tails.image = ImageTag(LoadLittle<uint64_t>(record, 16));
  tails.key_tail = LoadPosition(record, kKeyTailOffset);
  tails.dirty_tail = LoadPosition(record, kDirtyTailOffset);
  tails.key_head = LoadPosition(record, kKeyHeadOffset);
  tails.committed = SequenceNumber(LoadLittle<uint64_t>(record, 96));
  tails.clean_stop = (LoadLittle<uint32_t>(record, 104) & kFlagCleanStop) != 0;
  tails.tail_incarnation = Incarnation(LoadLittle<uint32_t>(record, 108));
  tails.void_begin = SequenceNumber(LoadLittle<uint64_t>(record, 112));
  tails.void_end = SequenceNumber(LoadLittle<uint64_t>(record, 120));
  RETURN_IF_ERROR(
      CheckOrder(tails.key_tail, "key_tail", tails.dirty_tail, "dirty_tail"));
  RETURN_IF_ERROR(
      CheckOrder(tails.dirty_tail, "dirty_tail", tails.key_head, "key_head"));
  if (tails.key_head.sequence > kMaxSequenceNumber) {
    return FieldError(kName, "key_head", tails.key_head.sequence.value(),
                      absl::StrCat("at most ", kMaxSequenceNumber.value()));
  }
  if (tails.void_begin > tails.void_end) {
    return FieldError(kName, "void_begin", tails.void_begin.value(),
                      absl::StrCat("at most void_end ", tails.void_end.value()));
  }
  return tails;
}

absl::Status ValidateLogPosition(const LogPosition& position,
                                 const Geometry& geometry,
                                 absl::string_view what) {
  if (position.segment.value() >= geometry.segment_count()) {
    return FieldError(what, "segment", position.segment.value(),
                      absl::StrCat("less than ", geometry.segment_count()));
  }
  // A set may be appended here, and behind all others stands a link.
  const uint32_t last = geometry.segment_size() - kLinkSetSize;
  if (position.offset.value() > last ||
      !IsAligned(position.offset.value(), kPositionAlignment)) {
    return FieldError(what, "offset", position.offset.value(),
                      absl::StrCat("a multiple of ", kPositionAlignment,
                                   ", at most ", last));
  }
  if (position.generation == Generation(0)) {
    return FieldError(what, "generation", 0, "at least 1");
  }
  if (position.sequence == SequenceNumber(0)) {
    return FieldError(what, "sequence number", 0, "at least 1");
  }
  return absl::OkStatus();
}

}  // namespace pcachefs
