// What a fuzz target demands of the code under test: a broken demand ends the
// process in every build, as the fuzzer expects.

#ifndef PCACHEFS_TEST_FUZZ_REQUIRE_H_
#define PCACHEFS_TEST_FUZZ_REQUIRE_H_

#include <cstdio>
#include <cstdlib>

#include "absl/status/status.h"

namespace pcachefs {

inline void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

// The same, telling what the error is.
inline void Require(bool condition, const char* what,
                    const absl::Status& status) {
  if (condition) return;
  std::fprintf(stderr, "got %s\n", status.ToString().c_str());
  Require(false, what);
}

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_FUZZ_REQUIRE_H_
