// pcachectl doctor: what stands in the way on this machine, each with its fix.

#ifndef PCACHEFS_TOOLS_COMMANDS_DOCTOR_H_
#define PCACHEFS_TOOLS_COMMANDS_DOCTOR_H_

#include "tools/commands/command.h"

namespace pcachefs {

Command DoctorCommand();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_DOCTOR_H_
