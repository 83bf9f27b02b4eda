// pcachectl check

#ifndef PCACHEFS_TOOLS_COMMANDS_CHECK_H_
#define PCACHEFS_TOOLS_COMMANDS_CHECK_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command CheckCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_CHECK_H_
