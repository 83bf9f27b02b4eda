// pcachectl stop

#ifndef PCACHEFS_TOOLS_COMMANDS_STOP_H_
#define PCACHEFS_TOOLS_COMMANDS_STOP_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command StopCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_STOP_H_
