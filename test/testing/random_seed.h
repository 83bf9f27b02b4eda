// The seed of a test that uses random numbers. It is the same in every run
// unless the environment gives another one:
//
//   bazel test --test_env=PCACHEFS_SEED=7 --test_output=all //test/...
//
// and it is printed, so that a failure found with another seed can be repeated.

#ifndef PCACHEFS_TEST_TESTING_RANDOM_SEED_H_
#define PCACHEFS_TEST_TESTING_RANDOM_SEED_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace pcachefs {

inline uint64_t RandomSeed() {
  const char* const given = std::getenv("PCACHEFS_SEED");
  const uint64_t seed =
      given == nullptr ? 20250721 : std::strtoull(given, nullptr, 10);
  std::printf("repeat with --test_env=PCACHEFS_SEED=%llu\n",
              static_cast<unsigned long long>(seed));  // NOLINT: printf's type
  return seed;
}

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_TESTING_RANDOM_SEED_H_
