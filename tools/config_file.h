// A daemon's settings as a file, such as /etc/pcachefs/NAME.conf:
//
//   # comment
//   cache = /dev/nvme0n1p4
//   mountpoint = /mnt/pcache
//   backing = vm1=/dev/sdb
//   backing = vm2=/dev/sdc
//   allow_other = true
//
// The keys are those of the settings table, and mountpoint. Values go to the
// end of the line, without the space around them; there are no quotes. Only
// backing may be there twice, and then adds up.

#ifndef PCACHEFS_TOOLS_CONFIG_FILE_H_
#define PCACHEFS_TOOLS_CONFIG_FILE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

// Not in the settings table, as it is an argument of its own to pcachefs.
inline constexpr char kMountpointKey[] = "mountpoint";

struct ConfigFile {
  std::map<std::string, std::string> values;
  // "FILE:3: gc_percent: got 'x', want 0..90": everything that is wrong.
  std::vector<std::string> errors;
};

// `path` is for the messages only.
ConfigFile ParseConfigFile(absl::string_view path, absl::string_view text);

// The values; InvalidArgument with the first of the errors.
absl::StatusOr<std::map<std::string, std::string>> ReadConfigFile(
    const std::string& path);

// The mountpoint that `path` stands for: that of a config if it is a regular file,
// else itself.
absl::StatusOr<std::string> FindMountpoint(const std::string& path);

// The text of a file of at most 1 MiB.
absl::StatusOr<std::string> ReadConfigText(const std::string& path);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_CONFIG_FILE_H_
