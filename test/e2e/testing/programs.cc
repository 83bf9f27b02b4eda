#include "test/e2e/testing/programs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <iostream>
#include <map>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/scratch_directory.h"

namespace pcachefs {
namespace {

// Set once, by main().
std::string pcachefs_path;
std::string pcachectl_path;
std::map<std::string, uint64_t> number_flags;

// By the package of Debian that has it.
const std::map<std::string, std::string>& Packages() {
  static const auto& packages = *new std::map<std::string, std::string>{
      {"cp", "coreutils"},        {"diff", "diffutils"},
      {"dd", "coreutils"},        {"fio", "fio"},
      {"fstrim", "util-linux"},   {"losetup", "mount"},
      {"mkfs.ext4", "e2fsprogs"}, {"mkfs.xfs", "xfsprogs"},
      {"e2fsck", "e2fsprogs"},    {"mount", "mount"},
      {"qemu-img", "qemu-utils"}, {"qemu-io", "qemu-utils"},
      {"busybox", "busybox-static"},
      {"qemu-system-x86_64", "qemu-system-x86"},
      {"sqlite3", "sqlite3"},     {"stress-ng", "stress-ng"},
      {"sync", "coreutils"},      {"umount", "mount"},
      {"xfs_repair", "xfsprogs"},
  };
  return packages;
}

// Fails rather than skips: a test that did not run proves nothing.
bool CanMount() {
  if (geteuid() != 0) {
    std::cerr << "end-to-end tests mount filesystems: run them as root\n";
    return false;
  }
  const int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    std::cerr << "end-to-end tests need FUSE: /dev/fuse: " << strerror(errno)
              << "\n";
    return false;
  }
  close(fd);
  return true;
}

// A mount namespace of our own. Else each sandbox that Bazel starts meanwhile,
// for something else, would get copies of our mounts, and a filesystem that we
// unmount would stay in use until that sandbox ends. It also means that the
// kernel removes all mounts with the last process of the test.
bool LeaveMountNamespace() {
  if (unshare(CLONE_NEWNS) == 0 &&
      mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0) {
    return true;
  }
  std::cerr << "end-to-end tests need a mount namespace: " << strerror(errno)
            << "\n";
  return false;
}

bool SetPath(const char* argument, std::string* path) {
  char absolute[PATH_MAX];
  if (argument == nullptr || realpath(argument, absolute) == nullptr ||
      access(absolute, X_OK) != 0) {
    std::cerr << "usage: TEST [--gtest_...] PCACHEFS PCACHECTL: no program "
              << (argument == nullptr ? "given" : argument) << "\n";
    return false;
  }
  *path = absolute;
  return true;
}

// `--NAME=NUMBER`
bool SetNumberFlag(const std::string& argument) {
  const size_t equals = argument.find('=');
  uint64_t number;
  if (argument.compare(0, 2, "--") == 0 && equals != std::string::npos &&
      absl::SimpleAtoi(argument.substr(equals + 1), &number)) {
    number_flags[argument.substr(2, equals - 2)] = number;
    return true;
  }
  std::cerr << "got " << argument << ", want --NAME=NUMBER\n";
  return false;
}

int RunTests(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  // Bazel's PATH has no sbin.
  setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
  setenv("LC_ALL", "C.UTF-8", 1);
  umask(022);
  if (!SetPath(argc > 1 ? argv[1] : nullptr, &pcachefs_path) ||
      !SetPath(argc > 2 ? argv[2] : nullptr, &pcachectl_path) || !CanMount() ||
      !LeaveMountNamespace()) {
    return EXIT_FAILURE;
  }
  for (int i = 3; i < argc; ++i) {
    if (!SetNumberFlag(argv[i])) return EXIT_FAILURE;
  }
  StartJanitor();
  return RUN_ALL_TESTS();
}

}  // namespace

const std::string& PcachefsPath() { return pcachefs_path; }
const std::string& PcachectlPath() { return pcachectl_path; }

uint64_t NumberFlag(const std::string& name, uint64_t otherwise) {
  const auto found = number_flags.find(name);
  return found == number_flags.end() ? otherwise : found->second;
}

absl::Status RequirePrograms(const std::vector<std::string>& programs) {
  for (const std::string& program : programs) {
    if (RunCommand({"sh", "-c", "command -v " + program}).ok()) continue;
    const auto package = Packages().find(program);
    return absl::NotFoundError(absl::StrCat(
        program, ": not installed: apt-get install ",
        package == Packages().end() ? "(its package)" : package->second));
  }
  return absl::OkStatus();
}

}  // namespace pcachefs

int main(int argc, char** argv) { return pcachefs::RunTests(argc, argv); }
