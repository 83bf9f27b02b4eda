#include "tools/commands/clear_mount.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/config_file.h"

namespace pcachefs {
namespace {

constexpr absl::Duration kPatience = absl::Milliseconds(500);

// Of stat; nullopt: there is no answer, so that the mount is not dead either.
std::optional<int> ErrorOf(const std::string& path) {
  struct Asked {
    absl::Notification answered;
    int error = 0;
  };
  const auto asked = std::make_shared<Asked>();
  std::thread([asked, path] {
    struct stat attributes;
    asked->error = stat(path.c_str(), &attributes) == 0 ? 0 : errno;
    asked->answered.Notify();
  }).detach();
  if (!asked->answered.WaitForNotificationWithTimeout(kPatience)) {
    return std::nullopt;
  }
  return asked->error;
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  ASSIGN_OR_RETURN(const std::string mountpoint,
                   FindMountpoint(arguments.Word(0)));
  bool is_cleared = false;
  // A mount whose daemon lives answers, whatever it is of. The mountpoint itself
  // the kernel may remember; a name that is not there it does not.
  const std::string name = mountpoint + "/.pcache-probe";
  for (;;) {
    const std::optional<int> error = ErrorOf(name);
    // Somebody keeps it, and its next daemon will answer.
    if (!error || *error == 0 || *error == ENOENT) break;
    if (*error != ENOTCONN) {
      return absl::ErrnoToStatus(*error, absl::StrCat("clear-mount ",
                                                      mountpoint));
    }
    // What still has files of it open keeps them, and gets errors.
    if (umount2(mountpoint.c_str(), MNT_DETACH) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("umount ", mountpoint));
    }
    is_cleared = true;
  }
  if (arguments.json()) {
    PrintJson({{"mountpoint", mountpoint}, {"cleared", is_cleared}});
  } else if (is_cleared) {
    PrintText(absl::StrCat(mountpoint, ": removed the dead mount\n"));
  }
  return 0;
}

}  // namespace

Command ClearMountCommand() {
  return {.name = "clear-mount",
          .usage = "MOUNT|CONFIG",
          .help =
              "Removes the mount that a daemon left when it was killed; a "
              "living one is left\nalone. CONFIG is a config file of pcachefs "
              "that names the mountpoint.",
          .min_words = 1,
          .max_words = 1,
          .run = Run};
}

}  // namespace pcachefs
