// pcachefs under the name mount.pcachefs, as mount(8) calls it:
//
//   mount -t pcachefs /fast/cache /mnt/x -o backing=vm1=/dev/sdb,ro
//   -> mount.pcachefs /fast/cache /mnt/x -o ro,backing=vm1=/dev/sdb

#ifndef PCACHEFS_TOOLS_MOUNT_HELPER_H_
#define PCACHEFS_TOOLS_MOUNT_HELPER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

// By the name that the program was called by.
bool IsMountHelper(absl::string_view argv0);

struct MountHelperCall {
  bool is_fake = false;                // mount --fake: only check
  std::vector<std::string> arguments;  // the same for pcachefs, with argv[0]
};

// InvalidArgument if it is not how mount(8) calls helpers. Options are left as
// they are: ParseMountOptions knows which are mount's own.
absl::StatusOr<MountHelperCall> TranslateMountHelperCall(
    const std::vector<std::string>& arguments);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_MOUNT_HELPER_H_
