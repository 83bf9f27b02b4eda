// pcachectl explain: what the cache holds at one place of an image.

#ifndef PCACHEFS_TOOLS_COMMANDS_EXPLAIN_H_
#define PCACHEFS_TOOLS_COMMANDS_EXPLAIN_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command ExplainCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_EXPLAIN_H_
