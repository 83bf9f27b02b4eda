#include "meta/size_parser.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

constexpr char kLetters[] = "KMGT";

absl::Status BadSize(absl::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat(
      "got '", text, "', want a size above 0 such as 512M, 10G or 2T"));
}

// Bits to shift by for what follows the digits; -1: not known.
int ShiftOf(absl::string_view suffix) {
  if (suffix.empty() || suffix == "b" || suffix == "B") return 0;
  const absl::string_view unit = suffix.substr(1);
  if (!unit.empty() && unit != "B" && unit != "b" && unit != "iB") return -1;
  const absl::string_view letters(kLetters);
  const size_t index = letters.find(absl::ascii_toupper(suffix[0]));
  return index == absl::string_view::npos ? -1
                                          : 10 * static_cast<int>(index + 1);
}

}  // namespace

absl::StatusOr<uint64_t> ParseSize(absl::string_view text) {
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(text[digits])) ++digits;
  uint64_t number = 0;
  if (!absl::SimpleAtoi(text.substr(0, digits), &number) || number == 0) {
    return BadSize(text);
  }
  const int shift = ShiftOf(text.substr(digits));
  const uint64_t largest = std::numeric_limits<int64_t>::max();
  if (shift < 0 || number > largest >> shift) return BadSize(text);
  return number << shift;
}

absl::StatusOr<SizeOrPercent> ParseSizeOrPercent(absl::string_view text) {
  SizeOrPercent parsed;
  absl::string_view digits = text;
  if (!absl::ConsumeSuffix(&digits, "%")) {
    ASSIGN_OR_RETURN(parsed.bytes, ParseSize(text));
    return parsed;
  }
  const bool is_number =
      std::all_of(digits.begin(), digits.end(), absl::ascii_isdigit);
  if (!is_number || !absl::SimpleAtoi(digits, &parsed.percent) ||
      parsed.percent < 1 || parsed.percent > 100) {
    return absl::InvalidArgumentError(
        absl::StrCat("got '", text, "', want 1% to 100%, or a size"));
  }
  return parsed;
}

std::string FormatSize(uint64_t bytes) {
  double value = static_cast<double>(bytes);
  int letter = -1;
  while (value >= 1024 && kLetters[letter + 1] != '\0') {
    value /= 1024;
    ++letter;
  }
  if (letter < 0) return absl::StrCat(bytes);
  std::string text = absl::StrFormat("%.1f", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return absl::StrCat(text, absl::string_view(&kLetters[letter], 1));
}

}  // namespace pcachefs
