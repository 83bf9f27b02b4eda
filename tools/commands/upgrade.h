// pcachectl upgrade: hands a mount over to another program file.

#ifndef PCACHEFS_TOOLS_COMMANDS_UPGRADE_H_
#define PCACHEFS_TOOLS_COMMANDS_UPGRADE_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command UpgradeCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_UPGRADE_H_
