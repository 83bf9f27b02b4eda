// Sizes as people write them: 512, 64K, 16M, 10G, 2T; factors of 1024.

#ifndef PCACHEFS_META_SIZE_PARSER_H_
#define PCACHEFS_META_SIZE_PARSER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

// Bytes, at least 1. An optional "B" or "iB" may follow the letter, whose case
// does not matter. InvalidArgument, with got and wanted, for 0, signs,
// fractions, unknown letters and what does not fit into 63 bits.
absl::StatusOr<uint64_t> ParseSize(absl::string_view text);

// A size, or a part of something.
struct SizeOrPercent {
  uint64_t bytes = 0;
  int percent = 0;  // 0: it is `bytes`

  uint64_t Of(uint64_t whole) const {
    return percent == 0 ? bytes : whole / 100 * percent;
  }
};

// As ParseSize, or "1%" to "100%".
absl::StatusOr<SizeOrPercent> ParseSizeOrPercent(absl::string_view text);

// "512", "64K", "1.5G": at most one digit after the point.
std::string FormatSize(uint64_t bytes);

}  // namespace pcachefs

#endif  // PCACHEFS_META_SIZE_PARSER_H_
