// pcachectl dump

#ifndef PCACHEFS_TOOLS_COMMANDS_DUMP_H_
#define PCACHEFS_TOOLS_COMMANDS_DUMP_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command DumpCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_DUMP_H_
