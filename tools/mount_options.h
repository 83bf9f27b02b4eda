// `-o key=value[,key=value]...`, as mount(8) and fstab pass options on.

#ifndef PCACHEFS_TOOLS_MOUNT_OPTIONS_H_
#define PCACHEFS_TOOLS_MOUNT_OPTIONS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

// Takes every `-o X`, `-oX` and `--o X` out of the arguments and returns the
// Xs. InvalidArgument if the last one has no X.
absl::StatusOr<std::vector<std::string>> TakeMountOptions(
    std::vector<std::string>& arguments);

// Settings by name from one X. A name alone switches on; "ro" is read_only;
// several backing= add up; commas within a value are written "\,". What
// mount(8) deals with itself (rw, nofail, _netdev, x-..., ...) is passed over.
// InvalidArgument for unknown names.
absl::StatusOr<std::map<std::string, std::string>> ParseMountOptions(
    absl::string_view text);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_MOUNT_OPTIONS_H_
