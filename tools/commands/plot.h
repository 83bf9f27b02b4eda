// `pcachectl plot`: draws a run that `stats --watch --json` has recorded.

#ifndef PCACHEFS_TOOLS_COMMANDS_PLOT_H_
#define PCACHEFS_TOOLS_COMMANDS_PLOT_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command PlotCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_PLOT_H_
