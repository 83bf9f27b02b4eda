#include "meta/record_field.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

absl::Status FieldError(absl::string_view record, absl::string_view field,
                        uint64_t got, absl::string_view wanted) {
  return absl::DataLossError(
      absl::StrCat(record, ": ", field, ": got ", got, ", want ", wanted));
}

absl::StatusOr<std::string> LoadText(std::span<const std::byte> bytes,
                                     absl::string_view record,
                                     absl::string_view field) {
  constexpr std::byte kZero{0};
  const auto end = std::find(bytes.begin(), bytes.end(), kZero);
  if (end == bytes.end()) {
    return absl::DataLossError(
        absl::StrCat(record, ": ", field, ": got no zero at the end of ",
                     bytes.size(), " bytes, want zero-padded text"));
  }
  const bool padded = std::all_of(end, bytes.end(),
                                  [](std::byte byte) { return byte == kZero; });
  if (!padded) {
    return absl::DataLossError(
        absl::StrCat(record, ": ", field, ": got bytes behind the zero at ",
                     end - bytes.begin(), ", want zero-padded text"));
  }
  return std::string(reinterpret_cast<const char*>(bytes.data()),
                     static_cast<size_t>(end - bytes.begin()));
}

void StoreText(std::span<std::byte> bytes, absl::string_view text) {
  ABSL_HARDENING_ASSERT(text.size() < bytes.size());
  ABSL_HARDENING_ASSERT(text.find('\0') == absl::string_view::npos);
  if (!text.empty()) std::memcpy(bytes.data(), text.data(), text.size());
}

bool IsUtf8(absl::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<uint8_t>(text[i++]);
    if (lead < 0x80) continue;
    if (lead < 0xc2 || lead > 0xf4) return false;
    // The lead byte narrows the second one; those behind it are all alike.
    uint8_t low = 0x80;
    uint8_t high = 0xbf;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
    const int following = 1 + (lead >= 0xe0) + (lead >= 0xf0);
    for (int k = 0; k < following; ++k) {
      if (i == text.size()) return false;
      const auto byte = static_cast<uint8_t>(text[i++]);
      if (byte < low || byte > high) return false;
      low = 0x80;
      high = 0xbf;
    }
  }
  return true;
}

}  // namespace pcachefs
