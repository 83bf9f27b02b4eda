// Included by meta/slot_pair.h only: its templates.

#ifndef PCACHEFS_META_SLOT_PAIR_INL_H_
#define PCACHEFS_META_SLOT_PAIR_INL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "meta/slot_pair.h"

namespace pcachefs {
namespace slot_pair_internal {

bool IsBlank(std::span<const std::byte> bytes);
// Requires two slots that CheckSlot accepts.
bool SameRecord(std::span<const std::byte> slot0,
                std::span<const std::byte> slot1);
absl::Status NeitherValid(absl::string_view name, const absl::Status& status0,
                          const absl::Status& status1);
absl::Status EqualUpdateNumbers(absl::string_view name, uint64_t update_number);
absl::Status BothBlank(absl::string_view name);

// A valid slot's content.
template <typename T>
struct Version {
  T value;
  uint64_t update_number = 0;
};

template <typename T>
absl::StatusOr<Version<T>> DecodeSlot(std::span<const std::byte> slot) {
  absl::StatusOr<SlotHeader> header =
      CheckSlot(slot, T::kType, T::kSize, T::kName);
  if (!header.ok()) return std::move(header).status();
  absl::StatusOr<T> value = T::DecodeBody(slot.first(T::kSize));
  if (!value.ok()) return std::move(value).status();
  return Version<T>{*std::move(value), header->update_number};
}

}  // namespace slot_pair_internal

template <typename T>
absl::StatusOr<SlotChoice<T>> ChooseSlot(std::span<const std::byte> slot0,
                                         std::span<const std::byte> slot1) {
  namespace internal = slot_pair_internal;
  ABSL_HARDENING_ASSERT(slot0.size() >= T::kSize);
  ABSL_HARDENING_ASSERT(slot1.size() >= T::kSize);
  const std::array<bool, 2> blank = {
      internal::IsBlank(slot0.first(T::kSize)),
      internal::IsBlank(slot1.first(T::kSize)),
  };
  if (blank[0] && blank[1]) return internal::BothBlank(T::kName);

  std::array<absl::StatusOr<internal::Version<T>>, 2> versions = {
      internal::DecodeSlot<T>(slot0),
      internal::DecodeSlot<T>(slot1),
  };
  if (!versions[0].ok() && !versions[1].ok()) {
    return internal::NeitherValid(T::kName, versions[0].status(),
                                  versions[1].status());
  }
  SlotChoice<T> choice;
  if (versions[0].ok() && versions[1].ok()) {
    const uint64_t number0 = versions[0]->update_number;
    const uint64_t number1 = versions[1]->update_number;
    if (number0 == number1 && !internal::SameRecord(slot0, slot1)) {
      return internal::EqualUpdateNumbers(T::kName, number0);
    }
    choice.slot = number1 > number0 ? 1 : 0;
  } else {
    choice.slot = versions[1].ok() ? 1 : 0;
    const int other = 1 - choice.slot;
    if (!blank[other]) choice.other = versions[other].status();
  }
  choice.value = std::move(versions[choice.slot]->value);
  choice.update_number = versions[choice.slot]->update_number;
  return choice;
}

template <typename T>
std::array<std::byte, T::kSize> EncodeSlot(const T& value,
                                           uint64_t update_number) {
  std::array<std::byte, T::kSize> record = {};
  value.EncodeBody(record);
  SealSlot(record, T::kType, update_number);
  return record;
}

}  // namespace pcachefs

#endif  // PCACHEFS_META_SLOT_PAIR_INL_H_
