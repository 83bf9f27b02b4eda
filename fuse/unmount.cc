#include "fuse/unmount.h"

#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace pcachefs {

absl::Status UnmountLazily(const std::string& mountpoint) {
  if (umount2(mountpoint.c_str(), MNT_DETACH) == 0) return absl::OkStatus();
  const int error = errno;
  if (error != EPERM) {
    return absl::ErrnoToStatus(error, absl::StrCat("umount ", mountpoint));
  }
  std::string words[] = {"fusermount3", "-u", "-q", "-z", "--", mountpoint};
  char* arguments[] = {words[0].data(), words[1].data(), words[2].data(),
                       words[3].data(), words[4].data(), words[5].data(),
                       nullptr};
  pid_t helper = 0;
  int result = posix_spawnp(&helper, arguments[0], nullptr, nullptr, arguments,
                            environ);
  if (result != 0) return absl::ErrnoToStatus(result, "fusermount3");
  while (waitpid(helper, &result, 0) < 0 && errno == EINTR) {
  }
  return result == 0 ? absl::OkStatus()
                     : absl::PermissionDeniedError(
                           absl::StrCat("fusermount3 -u ", mountpoint));
}

}  // namespace pcachefs
