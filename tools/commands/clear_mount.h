// pcachectl clear-mount: removes the mount that a dead daemon left.

#ifndef PCACHEFS_TOOLS_COMMANDS_CLEAR_MOUNT_H_
#define PCACHEFS_TOOLS_COMMANDS_CLEAR_MOUNT_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command ClearMountCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_CLEAR_MOUNT_H_
