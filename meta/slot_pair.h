// The one primitive behind every fixed record: two slots, CRC and update
// number, newest valid slot wins, store goes to the other one (C6).
// docs/on_media_format.md section 2. Pure: core/slot_store.h does the I/O.

#ifndef PCACHEFS_META_SLOT_PAIR_H_
#define PCACHEFS_META_SLOT_PAIR_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

inline constexpr size_t kRecordHeaderSize = 16;

// What a slot's header says, after type, size and CRC were found right.
struct SlotHeader {
  uint64_t update_number = 0;
};

// Checks header and CRC of one slot against type and the smallest record size.
// `slot` must hold at least `min_size` bytes; a record longer than `min_size`
// (a later minor version) is checked over its own length, which must fit in
// `slot`. DataLoss says which check failed, got and wanted.
absl::StatusOr<SlotHeader> CheckSlot(std::span<const std::byte> slot,
                                     uint16_t type, size_t min_size,
                                     absl::string_view name);

// Puts header and CRC on `record`, whose body is already encoded.
void SealSlot(std::span<std::byte> record, uint16_t type,
              uint64_t update_number);

// Which slot holds the newest valid version of a record.
template <typename T>
struct SlotChoice {
  T value;
  int slot = 0;                // 0 or 1: where `value` was
  uint64_t update_number = 0;  // of `value`
  // The other slot is neither blank nor valid: worth telling by `check`; what
  // is wrong with it. A torn store of an update leaves it so.
  absl::Status other;
};

// Newest valid of the two. NotFound if both slots are blank (all zero over
// T::kSize); DataLoss, telling what is wrong with each, if neither is valid or
// both are with equal update numbers and different bytes.
template <typename T>
absl::StatusOr<SlotChoice<T>> ChooseSlot(std::span<const std::byte> slot0,
                                         std::span<const std::byte> slot1);

// The bytes of `value` as they belong into a slot.
template <typename T>
std::array<std::byte, T::kSize> EncodeSlot(const T& value,
                                           uint64_t update_number);

}  // namespace pcachefs

#include "meta/slot_pair_inl.h"

#endif  // PCACHEFS_META_SLOT_PAIR_H_
