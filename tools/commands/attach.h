// pcachectl attach

#ifndef PCACHEFS_TOOLS_COMMANDS_ATTACH_H_
#define PCACHEFS_TOOLS_COMMANDS_ATTACH_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command AttachCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_ATTACH_H_
