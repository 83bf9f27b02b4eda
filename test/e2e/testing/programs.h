// The programs under test and those of the system that tests drive.

#ifndef PCACHEFS_TEST_E2E_TESTING_PROGRAMS_H_
#define PCACHEFS_TEST_E2E_TESTING_PROGRAMS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace pcachefs {

// Absolute paths, from the command line of the test.
const std::string& PcachefsPath();
const std::string& PcachectlPath();

// What the command line says of a number, as `--rounds=100` behind the paths;
// else `otherwise`, which suits a run among all others.
uint64_t NumberFlag(const std::string& name, uint64_t otherwise);

// An error naming the package of the first that is not installed.
absl::Status RequirePrograms(const std::vector<std::string>& programs);

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_E2E_TESTING_PROGRAMS_H_
