// Bytes as the text in which golden tests and docs/ show them.

#ifndef PCACHEFS_TEST_TESTING_HEX_H_
#define PCACHEFS_TEST_TESTING_HEX_H_

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

// The bytes of pairs of hexadecimal digits; spaces and line ends are ignored.
inline std::vector<std::byte> FromHex(absl::string_view text) {
  std::string digits;
  for (const char c : text) {
    if (!absl::ascii_isspace(static_cast<unsigned char>(c))) digits += c;
  }
  std::vector<std::byte> bytes;
  for (const char c : absl::HexStringToBytes(digits)) {
    bytes.push_back(static_cast<std::byte>(c));
  }
  return bytes;
}

// "0010: 00010203 04050607 08090a0b 0c0d0e0f\n" and so on: 16 bytes to a line,
// behind their offset, so that a failing comparison shows where the bytes
// differ. Lines of zeros are left out.
inline std::string ToHex(std::span<const std::byte> bytes) {
  std::string text;
  for (size_t line = 0; line < bytes.size(); line += 16) {
    std::string digits;
    bool all_zero = true;
    for (size_t i = line; i < std::min(line + 16, bytes.size()); ++i) {
      const auto byte = static_cast<unsigned>(bytes[i]);
      all_zero &= byte == 0;
      absl::StrAppend(&digits, i % 4 == 0 ? " " : "",
                      absl::Hex(byte, absl::kZeroPad2));
    }
    if (all_zero) continue;
    absl::StrAppend(&text, absl::Hex(line, absl::kZeroPad4), ":", digits, "\n");
  }
  return text;
}

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_TESTING_HEX_H_
