// pcachectl format

#ifndef PCACHEFS_TOOLS_COMMANDS_FORMAT_H_
#define PCACHEFS_TOOLS_COMMANDS_FORMAT_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command FormatCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_FORMAT_H_
