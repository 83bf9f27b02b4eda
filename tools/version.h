// Which versions this program consists of.

#ifndef PCACHEFS_TOOLS_VERSION_H_
#define PCACHEFS_TOOLS_VERSION_H_

#include <string>

#include "absl/strings/string_view.h"

namespace pcachefs {

inline constexpr char kVersion[] = "0.1.0";

std::string LibfuseVersion();
std::string LiburingVersion();

// The commit that the program was built of, if it was built with --stamp; ends
// in -modified if the tree was not as in the commit.
std::string BuildCommit();

// "pcachefs 0.1.0 (commit 0123456789ab, libfuse 3.18.3, liburing 2.15,
// transport io_uring)"; the transport is what `auto` means here and now.
std::string VersionLine(absl::string_view program);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_VERSION_H_
