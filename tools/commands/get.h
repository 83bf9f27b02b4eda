// pcachectl get

#ifndef PCACHEFS_TOOLS_COMMANDS_GET_H_
#define PCACHEFS_TOOLS_COMMANDS_GET_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command GetCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_GET_H_
