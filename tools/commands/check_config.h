// pcachectl check-config: is a daemon's config file fit to start it?

#ifndef PCACHEFS_TOOLS_COMMANDS_CHECK_CONFIG_H_
#define PCACHEFS_TOOLS_COMMANDS_CHECK_CONFIG_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command CheckConfigCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_CHECK_CONFIG_H_
