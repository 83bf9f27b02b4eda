#include "test/e2e/testing/clear_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "test/e2e/testing/process.h"

namespace pcachefs {
namespace {

std::string Content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::vector<std::string> Names(const std::string& directory) {
  std::vector<std::string> names;
  DIR* dir = opendir(directory.c_str());
  if (dir == nullptr) return names;
  while (const dirent* entry = readdir(dir)) names.push_back(entry->d_name);
  closedir(dir);
  return names;
}

bool IsBelow(const std::string& path, const std::string& directory) {
  return path.compare(0, directory.size() + 1, directory + "/") == 0;
}

std::vector<pid_t> ProcessesNaming(const std::string& path) {
  std::vector<pid_t> pids;
  for (const std::string& name : Names("/proc")) {
    const pid_t pid = atoi(name.c_str());
    if (pid <= 1 || pid == getpid()) continue;
    const std::string command = Content("/proc/" + name + "/cmdline");
    if (command.find(path) != std::string::npos) pids.push_back(pid);
  }
  return pids;
}

struct Mount {
  std::string point;
  std::string type;
};

// Those below `path`, latest first.
std::vector<Mount> MountsBelow(const std::string& path) {
  std::vector<Mount> mounts;
  std::ifstream table("/proc/self/mountinfo");
  std::string line;
  while (std::getline(table, line)) {
    std::istringstream fields(line);
    std::string field;
    Mount mount;
    for (int i = 0; i < 4; ++i) fields >> field;
    fields >> mount.point;
    while (fields >> field && field != "-") {
    }
    fields >> mount.type;
    if (IsBelow(mount.point, path)) mounts.insert(mounts.begin(), mount);
  }
  return mounts;
}

void DetachLoops(const std::string& path) {
  for (const std::string& name : Names("/sys/block")) {
    if (name.compare(0, 4, "loop") != 0) continue;
    const std::string backing =
        Content("/sys/block/" + name + "/loop/backing_file");
    if (!IsBelow(backing, path)) continue;
    const int fd = open(("/dev/" + name).c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) continue;
    ioctl(fd, LOOP_CLR_FD, 0);
    close(fd);
  }
}

void Unmount(const Mount& mount) {
  if (umount2(mount.point.c_str(), 0) != 0) {
    umount2(mount.point.c_str(), MNT_DETACH);
  }
}

}  // namespace

void ClearDirectory(const std::string& path) {
  // First, so that no request on the way to a hanging daemon hangs us too.
  const auto all_are_killed = [&] {
    const std::vector<pid_t> pids = ProcessesNaming(path);
    for (const pid_t pid : pids) kill(pid, SIGKILL);
    return pids.empty();
  };
  if (!WaitUntil(absl::Seconds(10), all_are_killed)) {
    // They wait in the kernel for a daemon that cannot answer any more, maybe
    // each for the other: that ends when all requests to it are aborted.
    for (const Mount& mount : MountsBelow(path)) {
      if (mount.type.compare(0, 4, "fuse") == 0) {
        umount2(mount.point.c_str(), MNT_FORCE);
      }
    }
    WaitUntil(absl::Seconds(30), all_are_killed);
  }
  // Before the mounts below which the loops' files are: a lazily unmounted file
  // no longer tells its path.
  for (const Mount& mount : MountsBelow(path)) {
    if (mount.type.compare(0, 4, "fuse") != 0) Unmount(mount);
  }
  DetachLoops(path);
  for (const Mount& mount : MountsBelow(path)) Unmount(mount);
  DetachLoops(path);
  const Outcome removed = RunCommand({"rm", "-rf", "--one-file-system", path});
  if (!removed.ok()) std::cerr << removed << std::endl;
}

}  // namespace pcachefs
