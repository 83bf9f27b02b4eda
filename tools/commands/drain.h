// pcachectl drain

#ifndef PCACHEFS_TOOLS_COMMANDS_DRAIN_H_
#define PCACHEFS_TOOLS_COMMANDS_DRAIN_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command DrainCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_DRAIN_H_
