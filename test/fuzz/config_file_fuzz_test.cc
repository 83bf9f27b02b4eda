// Feeds text to the parser of config files.

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "test/fuzz/require.h"
#include "tools/config_file.h"
#include "tools/settings.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pcachefs;  // NOLINT: the function must be outside
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  ConfigFile file = ParseConfigFile("x.conf", text);
  for (const std::string& error : file.errors) {
    Require(absl::StartsWith(error, "x.conf:"), "an error names its place");
    Require(error.find('\n') == std::string::npos, "an error is one line");
  }
  if (!file.errors.empty()) return 0;
  Require(file.values.count(kMountpointKey) == 1, "it has a mountpoint");
  file.values.erase(kMountpointKey);
  const auto settings = ReadSettings(file.values);
  Require(settings.ok(), "what has no errors can be read");
  Require(absl::StartsWith(settings->cache, "/"), "the cache's path is whole");
  return 0;
}
