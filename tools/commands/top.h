// pcachectl top: what every image does right now, until interrupted.

#ifndef PCACHEFS_TOOLS_COMMANDS_TOP_H_
#define PCACHEFS_TOOLS_COMMANDS_TOP_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command TopCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_TOP_H_
