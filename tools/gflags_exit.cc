#include "tools/gflags_exit.h"

#include <gflags/gflags.h>

#include <cstdlib>

namespace GFLAGS_NAMESPACE {
// Exported by the library for this purpose, but in none of its headers.
extern void (*gflags_exitfunc)(int);
}  // namespace GFLAGS_NAMESPACE

namespace pcachefs {

void ExitWithUsageCodeOnBadFlags() {
  GFLAGS_NAMESPACE::gflags_exitfunc = [](int) { std::exit(kExitUsage); };
}

}  // namespace pcachefs
