#include "tools/gflags_exit.h"

#include <gflags/gflags.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace GFLAGS_NAMESPACE {
// Exported by the library for this purpose, but in none of its headers.
extern void (*gflags_exitfunc)(int);
}  // namespace GFLAGS_NAMESPACE

namespace pcachefs {

absl::Status CheckFlagsExist(const std::vector<std::string>& arguments,
                             const std::string& help) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--") break;
    if (argument.size() < 2 || argument[0] != '-') continue;
    const size_t begin = argument[1] == '-' ? 2 : 1;
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(
        begin, equals == std::string::npos ? equals : equals - begin);
    gflags::CommandLineFlagInfo info;
    if (gflags::GetCommandLineFlagInfo(name.c_str(), &info)) {
      // Its value may begin with a dash.
      if (info.type != "bool" && equals == std::string::npos) ++i;
      continue;
    }
    if (name.rfind("no", 0) == 0 &&
        gflags::GetCommandLineFlagInfo(name.substr(2).c_str(), &info) &&
        info.type == "bool") {
      continue;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("unknown flag '", argument, "'; see ", help));
  }
  return absl::OkStatus();
}

void ExitWithUsageCodeOnBadFlags() {
  GFLAGS_NAMESPACE::gflags_exitfunc = [](int) { std::exit(kExitUsage); };
}

}  // namespace pcachefs
