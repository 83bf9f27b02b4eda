// The daemon's command line: flags made from the settings table, -o options,
// a config file, and the mountpoint.

#ifndef PCACHEFS_TOOLS_FLAGS_H_
#define PCACHEFS_TOOLS_FLAGS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/settings.h"

namespace pcachefs {

struct CommandLine {
  bool wants_help = false;
  bool wants_version = false;
  Settings settings;  // valid if neither is wanted
  // The same as one command line, from whatever it was put together: what is
  // not in the table of settings included, paths absolute. Its mountpoint is
  // not there.
  std::vector<std::string> all_arguments;
};

// To be called once. Flags that gflags knows to be wrong end the program there
// and then, with one line and exit code 2; the other errors are returned. A
// flag wins over the same setting in -o.
absl::StatusOr<CommandLine> ParseCommandLine(
    std::vector<std::string> arguments);

std::string HelpText();

// Joins the values of several --backing flags, which gflags would let the last
// one win.
void JoinBackingFlags(std::vector<std::string>& arguments);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_FLAGS_H_
