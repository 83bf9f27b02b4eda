// Which versions this program consists of.

#ifndef PCACHEFS_TOOLS_VERSION_H_
#define PCACHEFS_TOOLS_VERSION_H_

#include <string>

#include "absl/strings/string_view.h"

namespace pcachefs {

inline constexpr char kVersion[] = "0.1.0";

std::string LibfuseVersion();
std::string LiburingVersion();

// "pcachefs 0.1.0 (libfuse 3.18.3, liburing 2.15)".
std::string VersionLine(absl::string_view program);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_VERSION_H_
