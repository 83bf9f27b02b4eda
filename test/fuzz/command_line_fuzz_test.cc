// Feeds arguments, one a line, to all that reads the command line but gflags:
// the mount helper, -o options, lists of images, and every setting.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "meta/records.h"
#include "test/fuzz/require.h"
#include "tools/flags.h"
#include "tools/image_specs.h"
#include "tools/metrics_address.h"
#include "tools/mount_helper.h"
#include "tools/mount_options.h"
#include "tools/settings.h"

namespace pcachefs {
namespace {

void CheckSettings(const Settings& settings) {
  for (size_t i = 0; i < settings.backing.size(); ++i) {
    const ImageSpec& image = settings.backing[i];
    Require(ValidateImageName(image.name).ok(), "an image has a valid name");
    Require(!image.spec.empty(), "an image has a backing device");
    for (size_t j = 0; j < i; ++j) {
      Require(settings.backing[j].name != image.name, "no name is there twice");
    }
  }
  Require(settings.gc_percent >= -1 && settings.gc_percent <= kMaxGcPercent,
          "gc_percent is in range");
  Require(settings.threads >= 0 && settings.threads <= 64,
          "threads are in range");
  if (settings.metrics_listen.has_value()) {
    const auto again = ParseMetricsAddress(settings.metrics_listen->ToString());
    Require(again.ok() && *again == *settings.metrics_listen,
            "an address means what it shows");
  }
}

void CheckOptions(absl::string_view text) {
  const auto values = ParseMountOptions(text);
  if (!values.ok()) return;
  const auto settings = ReadSettings(*values);
  if (settings.ok()) CheckSettings(*settings);
}

// A list of images can be written again so that it says the same.
void CheckImages(absl::string_view text) {
  const auto images = ParseImageSpecs(text);
  if (!images.ok()) return;
  std::vector<std::string> words;
  for (const ImageSpec& image : *images) {
    words.push_back(
        absl::StrReplaceAll(absl::StrCat(image.name, "=", image.spec),
                            {{"\\", "\\\\"}, {",", "\\,"}}));
  }
  const auto again = ParseImageSpecs(absl::StrJoin(words, ","));
  Require(again.ok() && *again == *images, "images mean what they show");
}

}  // namespace
}  // namespace pcachefs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pcachefs;  // NOLINT: the function must be outside
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> arguments = {"mount.pcachefs"};
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    // Of what C hands to main().
    arguments.emplace_back(line.substr(0, line.find('\0')));
    CheckOptions(arguments.back());
    CheckImages(arguments.back());
    for (const Setting& setting : AllSettings()) {
      Settings settings;
      if (setting.set(arguments.back(), settings).ok()) CheckSettings(settings);
    }
  }

  const auto call = TranslateMountHelperCall(arguments);
  if (call.ok()) {
    Require(call->arguments.size() >= 4 &&
                absl::StartsWith(call->arguments[1], "--cache=") &&
                call->arguments[call->arguments.size() - 2] == "--",
            "the helper names a cache and a directory");
    arguments = call->arguments;
  }
  const std::string last = arguments.back();
  auto options = TakeMountOptions(arguments);
  if (options.ok()) {
    for (const std::string& option : *options) CheckOptions(option);
  }
  Require(!call.ok() || (options.ok() && arguments.back() == last),
          "the helper's directory stays the last");
  if (options.ok()) JoinBackingFlags(arguments);
  return 0;
}
