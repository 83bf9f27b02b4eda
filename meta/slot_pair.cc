#include "meta/slot_pair.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "meta/crc32c.h"
#include "meta/endian.h"

namespace pcachefs {
namespace {

constexpr size_t kCrcOffset = 0;
constexpr size_t kTypeOffset = 4;
constexpr size_t kSizeOffset = 6;
constexpr size_t kUpdateNumberOffset = 8;
constexpr size_t kCrcBegin = 4;
// A store adds one: no device lives to see this one.
constexpr uint64_t kMaxUpdateNumber = uint64_t{1} << 62;

}  // namespace

absl::StatusOr<SlotHeader> CheckSlot(std::span<const std::byte> slot,
                                     uint16_t type, size_t min_size,
                                     absl::string_view name) {
  ABSL_HARDENING_ASSERT(min_size >= kRecordHeaderSize);
  ABSL_HARDENING_ASSERT(slot.size() >= min_size);
  const auto got_type = LoadLittle<uint16_t>(slot, kTypeOffset);
  if (got_type != type) {
    return absl::DataLossError(
        absl::StrCat(name, ": record type: got ", got_type, ", want ", type));
  }
  const size_t size = LoadLittle<uint16_t>(slot, kSizeOffset);
  if (size < min_size || size > slot.size()) {
    return absl::DataLossError(absl::StrCat(name, ": record size: got ", size,
                                            ", want ", min_size, " to ",
                                            slot.size()));
  }
  const auto got_crc = LoadLittle<uint32_t>(slot, kCrcOffset);
  const uint32_t crc = Crc32c(slot.first(size).subspan(kCrcBegin));
  if (got_crc != crc) {
    return absl::DataLossError(
        absl::StrCat(name, ": crc: got 0x", absl::Hex(got_crc, absl::kZeroPad8),
                     ", want 0x", absl::Hex(crc, absl::kZeroPad8)));
  }
  const auto update_number = LoadLittle<uint64_t>(slot, kUpdateNumberOffset);
  if (update_number == 0 || update_number > kMaxUpdateNumber) {
    return absl::DataLossError(absl::StrCat(name, ": update number: got ",
                                            update_number, ", want 1 to ",
                                            kMaxUpdateNumber));
  }
  return SlotHeader{.update_number = update_number};
}

void SealSlot(std::span<std::byte> record, uint16_t type,
              uint64_t update_number) {
  ABSL_HARDENING_ASSERT(record.size() >= kRecordHeaderSize);
  ABSL_HARDENING_ASSERT(record.size() <= std::numeric_limits<uint16_t>::max());
  ABSL_HARDENING_ASSERT(update_number >= 1);
  StoreLittle<uint16_t>(record, kTypeOffset, type);
  StoreLittle<uint16_t>(record, kSizeOffset,
                        static_cast<uint16_t>(record.size()));
  StoreLittle<uint64_t>(record, kUpdateNumberOffset, update_number);
  StoreLittle<uint32_t>(record, kCrcOffset, Crc32c(record.subspan(kCrcBegin)));
}

namespace slot_pair_internal {

bool IsBlank(std::span<const std::byte> bytes) {
  // Each byte is what the one before it is, and the first is zero.
  return bytes.empty() ||
         (bytes[0] == std::byte{0} &&
          std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

bool SameRecord(std::span<const std::byte> slot0,
                std::span<const std::byte> slot1) {
  const size_t size0 = LoadLittle<uint16_t>(slot0, kSizeOffset);
  const size_t size1 = LoadLittle<uint16_t>(slot1, kSizeOffset);
  return std::ranges::equal(slot0.first(size0), slot1.first(size1));
}

absl::Status NeitherValid(absl::string_view name, const absl::Status& status0,
                          const absl::Status& status1) {
  return absl::DataLossError(
      absl::StrCat(name, ": no valid slot: slot 0: ", status0.message(),
                   "; slot 1: ", status1.message()));
}

absl::Status EqualUpdateNumbers(absl::string_view name,
                                uint64_t update_number) {
  return absl::DataLossError(
      absl::StrCat(name, ": update number: got ", update_number,
                   " in both slots with different content, want different "
                   "numbers"));
}

absl::Status BothBlank(absl::string_view name) {
  return absl::NotFoundError(absl::StrCat(name, ": both slots are blank"));
}

}  // namespace slot_pair_internal
}  // namespace pcachefs
