// CacheInfo: docs/on_media_format.md section 4.

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "meta/endian.h"
#include "meta/record_field.h"
#include "meta/records.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

constexpr uint32_t kFlagCleanStop = 1;
constexpr size_t kLabelOffset = 32;
constexpr size_t kLabelSize = 64;

}  // namespace

void CacheInfo::EncodeBody(std::span<std::byte> record) const {
  ABSL_HARDENING_ASSERT(gc_percent <= kMaxGcPercent);
  StoreLittle<uint32_t>(record, 16, clean_stop ? kFlagCleanStop : 0);
  StoreLittle<uint8_t>(record, 20, gc_percent);
  StoreLittle<uint64_t>(record, 24, start_count);
  StoreText(record.subspan(kLabelOffset, kLabelSize), label);
}

absl::StatusOr<CacheInfo> CacheInfo::DecodeBody(
    std::span<const std::byte> record) {
  CacheInfo info;
  info.clean_stop = (LoadLittle<uint32_t>(record, 16) & kFlagCleanStop) != 0;
  info.gc_percent = LoadLittle<uint8_t>(record, 20);
  if (info.gc_percent > kMaxGcPercent) {
    return FieldError(kName, "gc_percent", info.gc_percent,
                      absl::StrCat("0 to ", kMaxGcPercent));
  }
  info.start_count = LoadLittle<uint64_t>(record, 24);
  ASSIGN_OR_RETURN(
      info.label,
      LoadText(record.subspan(kLabelOffset, kLabelSize), kName, "label"));
  if (!IsUtf8(info.label)) {
    return absl::DataLossError(
        absl::StrCat(kName, ": label: got malformed text, want UTF-8"));
  }
  return info;
}

}  // namespace pcachefs
