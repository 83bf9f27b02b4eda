// pcachectl list

#ifndef PCACHEFS_TOOLS_COMMANDS_LIST_H_
#define PCACHEFS_TOOLS_COMMANDS_LIST_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command ListCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_LIST_H_
