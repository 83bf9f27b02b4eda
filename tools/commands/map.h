// pcachectl map: which parts of an image are cached and dirty.

#ifndef PCACHEFS_TOOLS_COMMANDS_MAP_H_
#define PCACHEFS_TOOLS_COMMANDS_MAP_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command MapCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_MAP_H_
