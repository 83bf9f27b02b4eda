#include "tools/image_specs.h"

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "meta/records.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

bool IsUri(absl::string_view spec) {
  return absl::StartsWith(spec, "nbd://") ||
         absl::StartsWith(spec, "nbd+unix://") ||
         absl::StartsWith(spec, "nbds://") ||
         absl::StartsWith(spec, "nbds+unix://");
}

}  // namespace

std::vector<std::string> SplitWords(absl::string_view text) {
  std::vector<std::string> words(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) {
      words.back() += text[++i];
    } else if (text[i] == ',') {
      words.emplace_back();
    } else {
      words.back() += text[i];
    }
  }
  return words;
}

absl::StatusOr<ImageSpec> ParseImageSpec(absl::string_view text) {
  const size_t equals = text.find('=');
  if (equals == absl::string_view::npos || equals + 1 == text.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "got '", text, "', want NAME=PATH such as vm1=/dev/vg0/vm1"));
  }
  ImageSpec image = {.name = std::string(text.substr(0, equals)),
                     .spec = std::string(text.substr(equals + 1))};
  RETURN_IF_ERROR(ValidateImageName(image.name));
  if (IsUri(image.spec)) return image;
  std::error_code error;
  const std::filesystem::path path =
      std::filesystem::absolute(image.spec, error);
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat(
        "image ", image.name, ": ", image.spec, ": ", error.message()));
  }
  image.spec = path.lexically_normal().string();
  return image;
}

absl::StatusOr<std::vector<ImageSpec>> ParseImageSpecs(absl::string_view text) {
  std::vector<ImageSpec> images;
  for (const std::string& word : SplitWords(text)) {
    ASSIGN_OR_RETURN(ImageSpec image, ParseImageSpec(word));
    for (const ImageSpec& other : images) {
      if (other.name == image.name) {
        return absl::InvalidArgumentError(
            absl::StrCat("image ", image.name, " is named twice"));
      }
    }
    images.push_back(std::move(image));
  }
  return images;
}

}  // namespace pcachefs
