#include "tools/commands/upgrade.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/config_file.h"
#include "tools/control_client.h"

namespace pcachefs {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(3);
constexpr absl::Duration kPause = absl::Milliseconds(20);

absl::StatusOr<Json> WaitUntilDone(const ControlClient& client,
                                   const std::string& mount, uint64_t number) {
  const absl::Time deadline = absl::Now() + kPatience;
  for (;;) {
    ASSIGN_OR_RETURN(
        Json answer,
        client.Call({{"verb", "upgrade_state"}, {"upgrade", number}}));
    if (answer.value("done", false)) return answer;
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat(mount, ": the upgrade is still under way after ",
                       absl::FormatDuration(kPatience), "; see the log"));
    }
    absl::SleepFor(kPause);
  }
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  ASSIGN_OR_RETURN(const std::string mount,
                   FindMountpoint(arguments.Word(0)));
  const ControlClient client(mount);
  std::string binary = arguments.Flag("binary");
  if (!binary.empty()) {
    std::error_code error;
    binary = std::filesystem::absolute(binary, error).string();
  }
  ASSIGN_OR_RETURN(const Json begun,
                   client.Call({{"verb", "upgrade"}, {"binary", binary}}));
  ASSIGN_OR_RETURN(const Json done,
                   WaitUntilDone(client, mount, begun["upgrade"]));
  if (arguments.json()) {
    PrintJson(done);
  } else {
    PrintText(absl::StrFormat(
        "%s: pid %d, version %s, serves; requests waited for %.3f s\n", mount,
        done.value("pid", 0), done.value("version", ""),
        done.value("pause_seconds", 0.0)));
  }
  return 0;
}

}  // namespace

Command UpgradeCommand() {
  return {.name = "upgrade",
          .usage = "MOUNT|CONFIG [--binary=PATH]",
          .help =
              "Has another program file, or what now lies where the running one "
              "did, take over\nthe mount: requests wait meanwhile, none fails, "
              "and what stands on the images goes\non. If the new program "
              "cannot serve the cache, the old one goes on. Only of daemons\n"
              "with --failover or --planned_failover. CONFIG is a config file "
              "of pcachefs that names the mountpoint.",
          .min_words = 1,
          .max_words = 1,
          .flags = {"binary"},
          .run = Run};
}

}  // namespace pcachefs
