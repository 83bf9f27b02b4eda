#include "iobackend/device_lock.h"

#include <fcntl.h>
#include <signal.h>
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
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "iobackend/file_io.h"
#include "iobackend/monotonic_time.h"

namespace pcachefs {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(10);
constexpr absl::Duration kPatienceWithUnknown = absl::Milliseconds(100);
constexpr absl::Duration kPause = absl::Milliseconds(2);
// A byte that nobody else locks, far from those that QEMU does.
constexpr off_t kRequestsByte = off_t{1} << 62;

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

// udev locks a block device while it looks at it, and looks whenever one that
// could be written is closed: by a daemon, too, that its successor follows.
bool IsUdev(int process) {
  std::string name;
  std::ifstream("/proc/" + std::to_string(process) + "/comm") >> name;
  return name.find("udev") != std::string::npos;
}

// How long it is worth waiting for the holder of a lock to let go of it.
absl::Duration PatienceWithHolder(int fd) {
  struct stat device;
  const int process = fstat(fd, &device) == 0 ? FindLockHolder(device) : 0;
  // Has just let go, or lives in another PID namespace.
  if (process == 0) return kPatienceWithUnknown;
  const bool has_died = kill(process, 0) != 0 && errno == ESRCH;
  return has_died || IsUdev(process) ? kPatience : absl::ZeroDuration();
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
  const absl::Time begin = MonotonicNow();
  for (;;) {
    if (flock(fd, operation | LOCK_NB) == 0) return absl::OkStatus();
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return PathError("lock", description, errno);
    if (MonotonicNow() - begin >= PatienceWithHolder(fd)) break;
    absl::SleepFor(kPause);
  }
  return absl::FailedPreconditionError(absl::StrCat(
      description, ": ", DescribeLockHolder(fd), ", wanted ",
      kind == LockKind::kShared ? "a shared" : "an exclusive", " lock"));
}

absl::Status LockRequests(int fd, LockKind kind,
                          absl::string_view description) {
  struct flock lock = {};
  lock.l_type = kind == LockKind::kShared ? F_RDLCK : F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = kRequestsByte;
  lock.l_len = 1;
  const absl::Time deadline = MonotonicNow() + kPatience;
  for (;;) {
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) return absl::OkStatus();
    if (errno == EINTR) continue;
    // File systems without such locks have none in the way.
    if (errno != EAGAIN && errno != EACCES) return absl::OkStatus();
    if (MonotonicNow() > deadline) break;
    absl::SleepFor(kPause);
  }
  return absl::FailedPreconditionError(absl::StrCat(
      description, ": requests of a process that died are still on their way; "
      "waited for ", absl::FormatDuration(kPatience), "; try again when the "
      "device answers"));
}

}  // namespace pcachefs
