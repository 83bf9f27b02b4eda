// Feeds the beginning of a device to what tells what stands there.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "test/fuzz/require.h"
#include "tools/foreign_content.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pcachefs;  // NOLINT: the function must be outside
  const auto bytes = std::as_bytes(std::span(data, size));
  const bool is_blank = std::all_of(bytes.begin(), bytes.end(), [](auto byte) {
    return byte == std::byte{0};
  });
  Require(DescribeContent(bytes).empty() == is_blank,
          "only zeroes are nothing");
  return 0;
}
