#include "tools/commands/clear_mount.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/config_file.h"

namespace pcachefs {
namespace {

// A directory is the mountpoint itself, a file a config that names it.
absl::StatusOr<std::string> FindMountpoint(const std::string& path) {
  struct stat attributes;
  if (stat(path.c_str(), &attributes) != 0 || !S_ISREG(attributes.st_mode)) {
    return path;
  }
  ASSIGN_OR_RETURN(auto values, ReadConfigFile(path));
  return values[kMountpointKey];
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  ASSIGN_OR_RETURN(const std::string mountpoint,
                   FindMountpoint(arguments.Word(0)));
  struct stat attributes;
  bool is_cleared = false;
  // A mount whose daemon lives answers, whatever it is of. The mountpoint itself
  // the kernel may remember; a name that is not there it does not.
  const std::string name = mountpoint + "/.pcache-probe";
  while (stat(name.c_str(), &attributes) != 0 && errno != ENOENT) {
    if (errno != ENOTCONN) {
      return absl::ErrnoToStatus(errno, absl::StrCat("clear-mount ",
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
