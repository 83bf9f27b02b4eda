// What tools/diagnosis.h judges, read from /proc, /sys and /etc.

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tools/diagnosis.h"

namespace pcachefs {
namespace {

std::string ContentOf(const std::string& path) {
  std::ifstream stream(path);
  std::ostringstream text;
  text << stream.rdbuf();
  return std::string(absl::StripAsciiWhitespace(text.str()));
}

bool IsBelow(const std::string& path, const std::string& mount) {
  return !mount.empty() && absl::StartsWith(path, absl::StrCat(mount, "/"));
}

void GatherLoops(const std::string& root, const std::string& mount,
                 MachineFacts& facts) {
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(root + "/sys/block", error)) {
    const std::string name = entry.path().filename();
    const std::string block = entry.path();
    const std::string file = ContentOf(block + "/loop/backing_file");
    if (!IsBelow(file, mount)) continue;
    LoopFacts loop = {.device = absl::StrCat("/dev/", name), .file = file};
    loop.direct_io = ContentOf(block + "/loop/dio") == "1";
    if (!absl::SimpleAtoi(ContentOf(block + "/queue/discard_granularity"),
                          &loop.discard_granularity)) {
      loop.discard_granularity = 0;
    }
    facts.loops.push_back(loop);
  }
}

void GatherFstab(const std::string& root, const std::string& mount,
                 MachineFacts& facts) {
  const std::vector<std::string> lines =
      absl::StrSplit(ContentOf(root + "/etc/fstab"), '\n');
  for (const std::string& line : lines) {
    const std::string stripped(absl::StripAsciiWhitespace(line));
    const std::string device = stripped.substr(0, stripped.find_first_of(" \t"));
    if (IsBelow(device, mount)) facts.fstab_lines.push_back(stripped);
  }
}

}  // namespace

MachineFacts GatherMachineFacts(const std::string& root,
                                const std::string& mount) {
  MachineFacts facts;
  facts.kernel_release = ContentOf(root + "/proc/sys/kernel/osrelease");
  std::error_code error;
  facts.has_fuse_device = std::filesystem::exists(root + "/dev/fuse", error);
  facts.fuse_uring =
      ContentOf(root + "/sys/module/fuse/parameters/enable_uring");
  facts.io_uring_disabled =
      ContentOf(root + "/proc/sys/kernel/io_uring_disabled");
  rlimit limit = {};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  facts.memlock_limit =
      limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
  facts.is_root = geteuid() == 0;
  if (!mount.empty()) {
    GatherLoops(root, mount, facts);
    GatherFstab(root, mount, facts);
  }
  return facts;
}

}  // namespace pcachefs
