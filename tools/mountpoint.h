// Is a directory fit to be mounted on?

#ifndef PCACHEFS_TOOLS_MOUNTPOINT_H_
#define PCACHEFS_TOOLS_MOUNTPOINT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pcachefs {

// The real path of the directory. NotFound; InvalidArgument if it is no
// directory; FailedPrecondition if something is mounted there (also something
// dead), it is not empty, or one of `devices` (absolute paths) lies within it.
absl::StatusOr<std::string> CheckMountpoint(
    const std::string& path, const std::vector<std::string>& devices);

// The type of the file system mounted at `path` itself; empty if none is.
// `mountinfo` is the text of /proc/self/mountinfo.
std::string MountTypeAt(const std::string& path, const std::string& mountinfo);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_MOUNTPOINT_H_
