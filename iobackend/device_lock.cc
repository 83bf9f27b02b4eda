#include "iobackend/device_lock.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "iobackend/file_io.h"

namespace pcachefs {
namespace {

// 0 if unknown. A line of /proc/locks:
//   1: FLOCK  ADVISORY  WRITE 3995 fe:00:10960898 0 EOF
// The process is 0 there if it lives in another PID namespace.
int FindLockHolder(const struct stat& device) {
  std::ifstream locks("/proc/locks");
  std::string line;
  while (std::getline(locks, line)) {
    int process;
    unsigned major_number, minor_number;
    uint64_t inode;
    if (std::sscanf(line.c_str(), "%*d: FLOCK %*s %*s %d %x:%x:%" SCNu64,
                    &process, &major_number, &minor_number, &inode) == 4 &&
        inode == device.st_ino && major_number == major(device.st_dev) &&
        minor_number == minor(device.st_dev)) {
      return process;
    }
  }
  return 0;
}

}  // namespace

std::string DescribeLockHolder(int fd) {
  struct stat device;
  const int process = fstat(fd, &device) == 0 ? FindLockHolder(device) : 0;
  if (process <= 0) return "in use by another process or by the system";
  if (process == getpid()) {
    return absl::StrCat("in use already by this process, ", process);
  }
  return absl::StrCat("in use by process ", process);
}

absl::Status LockDevice(int fd, LockKind kind, absl::string_view description) {
  const int operation = kind == LockKind::kShared ? LOCK_SH : LOCK_EX;
  int result;
  do {
    result = flock(fd, operation | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return absl::OkStatus();
  if (errno != EWOULDBLOCK) return PathError("lock", description, errno);
  return absl::FailedPreconditionError(absl::StrCat(
      description, ": ", DescribeLockHolder(fd), ", wanted ",
      kind == LockKind::kShared ? "a shared" : "an exclusive", " lock"));
}

}  // namespace pcachefs
