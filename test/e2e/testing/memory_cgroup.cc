#include "test/e2e/testing/memory_cgroup.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "test/e2e/testing/scratch_directory.h"

namespace pcachefs {
namespace {

bool Write(const std::string& path, const std::string& value) {
  std::ofstream file(path);
  file << value << std::flush;
  return file.good();
}

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

}  // namespace

absl::StatusOr<std::unique_ptr<MemoryCgroup>> MemoryCgroup::Make(
    uint64_t limit) {
  static int count = 0;
  const bool is_version_2 = Exists("/sys/fs/cgroup/cgroup.controllers");
  const std::string path =
      absl::StrCat(CgroupRoot(), "/", kScratchPrefix, getpid(), ".", ++count);
  if (is_version_2) {
    Write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
  }
  if (mkdir(path.c_str(), 0700) != 0) return absl::ErrnoToStatus(errno, path);
  std::unique_ptr<MemoryCgroup> group(new MemoryCgroup(path, is_version_2));
  const char* const file =
      is_version_2 ? "/memory.max" : "/memory.limit_in_bytes";
  if (!Write(path + file, absl::StrCat(limit))) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, file, ": cannot be set: no memory controller?"));
  }
  return group;
}

MemoryCgroup::MemoryCgroup(std::string path, bool is_version_2)
    : path_(std::move(path)), is_version_2_(is_version_2) {
  LetJanitorRemoveCgroup(path_);
}

MemoryCgroup::~MemoryCgroup() { RemoveCgroup(path_); }

std::vector<std::string> MemoryCgroup::Prefix() const {
  return {"sh", "-c",
          absl::StrCat("echo $$ > ", path_, "/cgroup.procs && exec \"$@\""),
          "sh"};
}

uint64_t MemoryCgroup::limit_hits() const {
  std::ifstream file(path_ +
                     (is_version_2_ ? "/memory.events" : "/memory.failcnt"));
  uint64_t number = 0;
  if (!is_version_2_) {
    file >> number;
    return number;
  }
  std::string key;
  while (file >> key >> number) {
    if (key == "max") return number;
  }
  return 0;
}

}  // namespace pcachefs
