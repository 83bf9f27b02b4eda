// Manual pages and shell completion, made from the tables that the programs
// themselves and their --help use.

#ifndef PCACHEFS_TOOLS_HELP_PAGES_H_
#define PCACHEFS_TOOLS_HELP_PAGES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tools/commands/command.h"

namespace pcachefs {

struct HelpSource {
  std::vector<Command> commands;   // of pcachectl
  std::vector<CommandFlag> flags;  // of any of them
};

// `page` is man-pcachefs, man-pcachectl, bash or zsh; InvalidArgument if not.
absl::StatusOr<std::string> MakeHelpPage(absl::string_view page,
                                         const HelpSource& source);

// For roff: backslashes, hyphens, and dots and quotes where they begin a line.
std::string EscapeRoff(absl::string_view text);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_HELP_PAGES_H_
