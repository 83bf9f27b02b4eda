#include "tools/commands/check_config.h"

#include <unistd.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/config_file.h"
#include "tools/image_specs.h"
#include "tools/settings.h"

namespace pcachefs {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(100);
constexpr int64_t kMaxWait = 3600;

// What must be there for a start; a cache of a given size is made.
absl::StatusOr<std::vector<std::string>> WantedPaths(
    const std::map<std::string, std::string>& values) {
  ASSIGN_OR_RETURN(const Settings settings, ReadSettings([&] {
                     auto flags = values;
                     flags.erase(kMountpointKey);
                     return flags;
                   }()));
  std::vector<std::string> paths;
  if (settings.cache_size == 0) paths.push_back(settings.cache);
  for (const ImageSpec& image : settings.backing) {
    // The others are addresses of servers.
    if (absl::StartsWith(image.spec, "/")) paths.push_back(image.spec);
  }
  return paths;
}

// At boot udev makes the names of devices while services start already.
absl::Status WaitForDevices(const std::string& config,
                            const std::map<std::string, std::string>& values,
                            const std::string& wait) {
  if (wait.empty()) return absl::OkStatus();
  int64_t seconds = 0;
  if (!absl::SimpleAtoi(wait, &seconds) || seconds < 0 || seconds > kMaxWait) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--wait: got '", wait, "', want 0..", kMaxWait, " seconds"));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> paths, WantedPaths(values));
  const absl::Time deadline = absl::Now() + absl::Seconds(seconds);
  for (const std::string& path : paths) {
    while (access(path.c_str(), F_OK) != 0) {
      if (absl::Now() >= deadline) {
        return absl::NotFoundError(
            absl::StrCat(config, ": ", path, ": not there after ", seconds,
                         " s; connect the device or change the config"));
      }
      absl::SleepFor(kPause);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  const std::string path = arguments.Word(0);
  ASSIGN_OR_RETURN(const std::string text, ReadConfigText(path));
  const ConfigFile file = ParseConfigFile(path, text);
  if (arguments.json()) {
    PrintJson({{"ok", file.errors.empty()},
               {"values", file.values},
               {"errors", file.errors}});
    return file.errors.empty() ? 0 : 1;
  }
  if (!file.errors.empty()) {
    return absl::FailedPreconditionError(absl::StrJoin(file.errors, "\n"));
  }
  RETURN_IF_ERROR(WaitForDevices(path, file.values, arguments.Flag("wait")));
  PrintText(absl::StrCat(path, ": ok\n"));
  return 0;
}

}  // namespace

Command CheckConfigCommand() {
  return {.name = "check-config",
          .usage = "FILE [--wait=SECONDS]",
          .help =
              "Checks a config file of pcachefs, such as "
              "/etc/pcachefs/NAME.conf: every line\nwith an error is named. "
              "What the devices are is seen only at the start; with --wait\n"
              "it is waited until they are there.",
          .min_words = 1,
          .max_words = 1,
          .flags = {"wait"},
          .run = Run};
}

}  // namespace pcachefs
