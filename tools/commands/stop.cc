#include "tools/commands/stop.h"

#include <signal.h>

#include <cerrno>
#include <cstdint>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/draining.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"

namespace pcachefs {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr absl::Duration kPause = absl::Milliseconds(10);

// A dead process whose parent has not asked for it counts as gone.
bool IsZombie(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(')');  // "123 (any name) Z ..."
  return name_end != std::string::npos && name_end + 2 < line.size() &&
         line[name_end + 2] == 'Z';
}

bool IsRunning(pid_t pid) {
  return (kill(pid, 0) == 0 || errno == EPERM) && !IsZombie(pid);
}

absl::Status WaitUntilGone(const ControlClient& client,
                           const std::string& mount, pid_t pid) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (client.IsAlive() || IsRunning(pid)) {
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat(
          mount, ": the daemon, pid ", pid, ", is still there after ",
          absl::FormatDuration(kPatience), "; see its log"));
    }
    absl::SleepFor(kPause);
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  const std::string mount = arguments.Word(0);
  const ControlClient client(mount);
  if (arguments.Has("drain")) {
    RETURN_IF_ERROR(DrainWithProgress(client, "").status());
  }
  ASSIGN_OR_RETURN(
      const Json answer,
      client.Call({{"verb", "stop"}, {"force", arguments.Has("force")}}));
  RETURN_IF_ERROR(WaitUntilGone(client, mount,
                                static_cast<pid_t>(NumberOf(answer, "pid"))));
  if (arguments.json()) PrintJson(answer);
  return 0;
}

}  // namespace

Command StopCommand() {
  return {.name = "stop",
          .usage = "MOUNT [--drain] [--force]",
          .help =
              "Commits, unmounts, and returns when the daemon has ended. "
              "Dirty data stays in\nthe cache; --drain writes it back "
              "first. Refused while an image is open, unless\n--force is "
              "given: then those who use it get errors.",
          .min_words = 1,
          .max_words = 1,
          .flags = {"drain", "force"},
          .run = Run};
}

}  // namespace pcachefs
