// What stands in the way of a fast and safe cache on this machine, and what to
// do about it. Facts are gathered first and judged without further looks at the
// machine.

#ifndef PCACHEFS_TOOLS_DIAGNOSIS_H_
#define PCACHEFS_TOOLS_DIAGNOSIS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fuse/status_json.h"

namespace pcachefs {

struct LoopFacts {
  std::string device;  // "/dev/loop0"
  std::string file;
  bool direct_io = false;
  uint64_t discard_granularity = 0;  // bytes; 0: no discard
};

struct MachineFacts {
  std::string kernel_release;            // "6.18.1-amd64"
  bool has_fuse_device = false;          // /dev/fuse
  std::string fuse_uring;                // parameter enable_uring; "": none
  std::string io_uring_disabled;         // sysctl; "": none
  uint64_t memlock_limit = 0;            // bytes; UINT64_MAX: none
  bool is_root = false;
  std::vector<LoopFacts> loops;          // of files below the mount
  std::vector<std::string> fstab_lines;  // whose device is below the mount
};

// `root` is put in front of every path that is read. Without `mount` no loop
// devices and lines are looked for.
MachineFacts GatherMachineFacts(const std::string& root,
                                const std::string& mount);

struct Finding {
  enum class Verdict {
    kOk,
    kNote,     // could be better
    kProblem,  // costs data in a crash, hangs, or does not start
  };
  std::string subject;
  Verdict verdict = Verdict::kOk;
  std::string found;
  std::string fix;  // empty if there is nothing to do
};
const char* Name(Finding::Verdict verdict);

// `status` is of the daemon that serves the mount (status --json), if any.
std::vector<Finding> Diagnose(const MachineFacts& facts,
                              const std::optional<Json>& status);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_DIAGNOSIS_H_
