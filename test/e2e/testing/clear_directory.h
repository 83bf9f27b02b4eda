// Undoes what a test did in a directory.

#ifndef PCACHEFS_TEST_E2E_TESTING_CLEAR_DIRECTORY_H_
#define PCACHEFS_TEST_E2E_TESTING_CLEAR_DIRECTORY_H_

#include <string>

namespace pcachefs {

// Kills the processes whose command line names `path`, unmounts what is mounted
// below it, detaches the loop devices of files below it, and removes it. `path`
// is of mkdtemp: its name is unique, so all of this is the test's own.
void ClearDirectory(const std::string& path);

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_E2E_TESTING_CLEAR_DIRECTORY_H_
