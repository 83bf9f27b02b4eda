// pcachectl set

#ifndef PCACHEFS_TOOLS_COMMANDS_SET_H_
#define PCACHEFS_TOOLS_COMMANDS_SET_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command SetCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_SET_H_
