// pcachectl flush

#ifndef PCACHEFS_TOOLS_COMMANDS_FLUSH_H_
#define PCACHEFS_TOOLS_COMMANDS_FLUSH_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command FlushCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_FLUSH_H_
