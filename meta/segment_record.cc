// SegmentRecord: docs/on_media_format.md section 7.

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "meta/endian.h"
#include "meta/record_field.h"
#include "meta/records.h"
#include "meta/types.h"

namespace pcachefs {

void SegmentRecord::EncodeBody(std::span<std::byte> record) const {
  StoreLittle<uint32_t>(record, 16, generation.value());
  StoreLittle<uint8_t>(record, 20, static_cast<uint8_t>(use));
  StoreLittle<uint32_t>(record, 24, owner.value());
  StoreLittle<uint64_t>(record, 32, image.value());
  StoreLittle<uint64_t>(record, 40, first_sequence.value());
}

absl::StatusOr<SegmentRecord> SegmentRecord::DecodeBody(
    std::span<const std::byte> record) {
  const auto use = LoadLittle<uint8_t>(record, 20);
  if (use > static_cast<uint8_t>(SegmentUse::kLog)) {
    return FieldError(kName, "use", use, "0 to 2");
  }
  SegmentRecord segment;
  segment.generation = Generation(LoadLittle<uint32_t>(record, 16));
  if (segment.generation > kMaxGeneration) {
    return FieldError(kName, "generation", segment.generation.value(),
                      absl::StrCat("at most ", kMaxGeneration.value()));
  }
  segment.use = static_cast<SegmentUse>(use);
  segment.owner = ImageId(LoadLittle<uint32_t>(record, 24));
  segment.image = ImageTag(LoadLittle<uint64_t>(record, 32));
  segment.first_sequence = SequenceNumber(LoadLittle<uint64_t>(record, 40));
  if (segment.use != SegmentUse::kFree && segment.generation == Generation(0)) {
    return FieldError(kName, "generation of a segment in use", 0, "at least 1");
  }
  if (segment.use == SegmentUse::kLog &&
      segment.first_sequence == SequenceNumber(0)) {
    return FieldError(kName, "first sequence number of a log segment", 0,
                      "at least 1");
  }
  return segment;
}

}  // namespace pcachefs
