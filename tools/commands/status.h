// pcachectl status

#ifndef PCACHEFS_TOOLS_COMMANDS_STATUS_H_
#define PCACHEFS_TOOLS_COMMANDS_STATUS_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command StatusCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_STATUS_H_
