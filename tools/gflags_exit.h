// Makes gflags end the program with the exit code for wrong usage.

#ifndef PCACHEFS_TOOLS_GFLAGS_EXIT_H_
#define PCACHEFS_TOOLS_GFLAGS_EXIT_H_

namespace pcachefs {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

// gflags prints its one line itself.
void ExitWithUsageCodeOnBadFlags();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_GFLAGS_EXIT_H_
