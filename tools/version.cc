#include "tools/version.h"

#include <liburing.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "fuse/libfuse.h"

namespace pcachefs {

std::string LibfuseVersion() { return fuse_pkgversion(); }

std::string LiburingVersion() {
#ifdef IO_URING_VERSION_MAJOR  // 2.4
  return absl::StrCat(IO_URING_VERSION_MAJOR, ".", IO_URING_VERSION_MINOR);
#else
  return "before 2.4";
#endif
}

std::string VersionLine(absl::string_view program) {
  return absl::StrCat(program, " ", kVersion, " (libfuse ", LibfuseVersion(),
                      ", liburing ", LiburingVersion(), ")");
}

}  // namespace pcachefs
