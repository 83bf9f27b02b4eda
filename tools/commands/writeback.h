// pcachectl writeback

#ifndef PCACHEFS_TOOLS_COMMANDS_WRITEBACK_H_
#define PCACHEFS_TOOLS_COMMANDS_WRITEBACK_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command WritebackCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_WRITEBACK_H_
