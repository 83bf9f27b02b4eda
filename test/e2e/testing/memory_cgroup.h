// A control group with little memory, to run programs in.

#ifndef PCACHEFS_TEST_E2E_TESTING_MEMORY_CGROUP_H_
#define PCACHEFS_TEST_E2E_TESTING_MEMORY_CGROUP_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace pcachefs {

// What runs in it is killed with its object, or by the janitor.
class MemoryCgroup {
 public:
  // Of version 1 or 2, whichever the system has. `limit` in bytes.
  static absl::StatusOr<std::unique_ptr<MemoryCgroup>> Make(uint64_t limit);
  ~MemoryCgroup();
  MemoryCgroup(const MemoryCgroup&) = delete;
  MemoryCgroup& operator=(const MemoryCgroup&) = delete;

  // Put before a command, makes it run in the group.
  std::vector<std::string> Prefix() const;
  // How often the limit was met.
  uint64_t limit_hits() const;

 private:
  MemoryCgroup(std::string path, bool is_version_2);

  const std::string path_;
  const bool is_version_2_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_E2E_TESTING_MEMORY_CGROUP_H_
