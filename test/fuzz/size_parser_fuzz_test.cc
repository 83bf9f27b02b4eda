// Feeds text to the parsers of sizes.

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "meta/size_parser.h"
#include "test/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pcachefs;  // NOLINT: the function must be outside
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto parsed = ParseSize(text);
  const auto part = ParseSizeOrPercent(text);
  if (parsed.ok()) {
    Require(*parsed >= 1 && *parsed <= INT64_MAX, "a size is in range");
    Require(part.ok() && part->percent == 0 && part->bytes == *parsed,
            "a size is a size or a part");
    Require(!FormatSize(*parsed).empty(), "a size can be shown");
  } else if (part.ok()) {
    Require(part->percent >= 1 && part->percent <= 100, "a part is in range");
    Require(part->Of(UINT64_MAX) <= UINT64_MAX - 99 || part->percent == 100,
            "a part is no more than the whole");
  }
  return 0;
}
