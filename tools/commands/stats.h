// pcachectl stats

#ifndef PCACHEFS_TOOLS_COMMANDS_STATS_H_
#define PCACHEFS_TOOLS_COMMANDS_STATS_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command StatsCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_STATS_H_
