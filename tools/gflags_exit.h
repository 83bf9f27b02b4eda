// Flags that are wrong: what is said, and the exit code for wrong usage.

#ifndef PCACHEFS_TOOLS_GFLAGS_EXIT_H_
#define PCACHEFS_TOOLS_GFLAGS_EXIT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace pcachefs {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

// An error with the first of `arguments`, those behind the program's name, that is
// a flag nobody has registered. What else is wrong with flags gflags tells.
absl::Status CheckFlagsExist(const std::vector<std::string>& arguments,
                             const std::string& help);

// gflags prints its one line itself.
void ExitWithUsageCodeOnBadFlags();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_GFLAGS_EXIT_H_
