// pcachectl detach

#ifndef PCACHEFS_TOOLS_COMMANDS_DETACH_H_
#define PCACHEFS_TOOLS_COMMANDS_DETACH_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command DetachCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_DETACH_H_
