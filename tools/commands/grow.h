// pcachectl grow

#ifndef PCACHEFS_TOOLS_COMMANDS_GROW_H_
#define PCACHEFS_TOOLS_COMMANDS_GROW_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command GrowCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_GROW_H_
