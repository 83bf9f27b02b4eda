// What a fuzz target demands of the code under test: a broken demand ends the
// process in every build, as the fuzzer expects.

#ifndef PCACHEFS_TEST_FUZZ_REQUIRE_H_
#define PCACHEFS_TEST_FUZZ_REQUIRE_H_

#include <cstdio>
#include <cstdlib>

namespace pcachefs {

inline void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_FUZZ_REQUIRE_H_
