// NAME=SPEC lists: which images to serve, and where their backing devices are.

#ifndef PCACHEFS_TOOLS_IMAGE_SPECS_H_
#define PCACHEFS_TOOLS_IMAGE_SPECS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

struct ImageSpec {
  std::string name;
  std::string spec;  // an absolute path, or a URI

  friend bool operator==(const ImageSpec&, const ImageSpec&) = default;
};

// Splits at commas; "\," is a comma within a word and "\\" a backslash.
std::vector<std::string> SplitWords(absl::string_view text);

// One NAME=SPEC. InvalidArgument, with got and wanted, for anything else. A
// relative path is made absolute; an NBD URI stays as it is.
absl::StatusOr<ImageSpec> ParseImageSpec(absl::string_view text);

// A list of them; no name twice.
absl::StatusOr<std::vector<ImageSpec>> ParseImageSpecs(absl::string_view text);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_IMAGE_SPECS_H_
