// pcachectl repair

#ifndef PCACHEFS_TOOLS_COMMANDS_REPAIR_H_
#define PCACHEFS_TOOLS_COMMANDS_REPAIR_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command RepairCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_REPAIR_H_
