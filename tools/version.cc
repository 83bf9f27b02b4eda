#include "tools/version.h"

#include <liburing.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "fuse/libfuse.h"
#include "fuse/transport.h"

namespace pcachefs {

// Of build_commit.cc, which is linked to every program.
extern const char kBuildCommit[];

std::string BuildCommit() {
  const std::string commit = kBuildCommit;
  return commit == "0" ? "" : commit;  // what Bazel says of no commit
}

std::string LibfuseVersion() { return fuse_pkgversion(); }

std::string LiburingVersion() {
#ifdef IO_URING_VERSION_MAJOR  // 2.4
  return absl::StrCat(IO_URING_VERSION_MAJOR, ".", IO_URING_VERSION_MINOR);
#else
  return "before 2.4";
#endif
}

std::string VersionLine(absl::string_view program) {
  const std::string commit = BuildCommit();
  const absl::StatusOr<TransportChoice> choice =
      ChooseTransport(Transport::kAuto, FindTransportFacts());
  return absl::StrCat(program, " ", kVersion, " (commit ",
                      commit.empty() ? "unknown" : commit, ", libfuse ",
                      LibfuseVersion(), ", liburing ", LiburingVersion(),
                      ", transport ",
                      choice.ok() ? Name(choice->transport) : "none", ")");
}

}  // namespace pcachefs
