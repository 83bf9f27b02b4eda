#include "test/e2e/testing/loop_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/process.h"

namespace pcachefs {
namespace {

// Opens and configures a free loop device: its descriptor, or -errno.
int Configure(int control_fd, int file_fd, bool read_only, uint32_t sector_size,
              std::string* path) {
  const int index = ioctl(control_fd, LOOP_CTL_GET_FREE);
  if (index < 0) return -errno;
  *path = absl::StrCat("/dev/loop", index);
  const int fd =
      open(path->c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (fd < 0) return -errno;
  loop_config config = {};
  config.fd = file_fd;
  config.block_size = sector_size;
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
  if (read_only) config.info.lo_flags |= LO_FLAGS_READ_ONLY;
  if (ioctl(fd, LOOP_CONFIGURE, &config) == 0) return fd;
  const int error = errno;
  close(fd);
  return -error;
}

absl::Status ToStatus(const Outcome& outcome) {
  if (outcome.ok()) return absl::OkStatus();
  return absl::UnknownError(
      absl::StrCat(outcome.command, ": exit code ", outcome.exit_code, ": ",
                   outcome.out.substr(0, 1000), outcome.err.substr(0, 1000)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<LoopDevice>> LoopDevice::Attach(
    const std::string& file, Access access, uint32_t sector_size) {
  const bool read_only = access == Access::kReadOnly;
  int error = 0;
  const File backing(file, (read_only ? O_RDONLY : O_RDWR) | O_DIRECT, &error);
  if (error != 0) return absl::ErrnoToStatus(error, file);
  const File control("/dev/loop-control", O_RDWR, &error);
  if (error != 0) return absl::ErrnoToStatus(error, "/dev/loop-control");

  std::string path;
  int fd;
  do {
    fd = Configure(control.fd(), backing.fd(), read_only, sector_size, &path);
    // EBUSY: another process took the free one first.
  } while (fd == -EBUSY);
  if (fd < 0) {
    return absl::ErrnoToStatus(-fd, absl::StrCat(path, ": attach ", file));
  }
  std::unique_ptr<LoopDevice> loop(new LoopDevice(path, fd));
  const std::string direct =
      ContentOf(absl::StrCat("/sys/block/", path.substr(5), "/loop/dio"));
  if (direct != "1\n") {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": no direct I/O on ", file, ": got ", direct));
  }
  return loop;
}

LoopDevice::LoopDevice(std::string path, int fd)
    : path_(std::move(path)), fd_(fd) {}

LoopDevice::~LoopDevice() { close(fd_); }

absl::Status MakeFilesystem(const std::string& type,
                            const std::string& device) {
  return ToStatus(RunCommand({"mkfs", "-t", type, "-q", device}));
}

absl::Status Mount(const std::string& device, const std::string& directory,
                   const std::string& options) {
  mkdir(directory.c_str(), 0700);
  return ToStatus(RunCommand({"mount", "-o", options, device, directory}));
}

absl::Status Unmount(const std::string& directory) {
  return ToStatus(RunCommand({"umount", directory}));
}

absl::Status CheckFilesystem(const std::string& type,
                             const std::string& device) {
  if (type == "ext4") {
    return ToStatus(RunCommand({"e2fsck", "-f", "-n", device}));
  }
  return ToStatus(RunCommand({"xfs_repair", "-n", device}));
}

absl::Status CheckSameTree(const std::string& tree, const std::string& other) {
  return ToStatus(RunCommand({"diff", "-r", "--no-dereference", "--brief",
                              "--exclude=lost+found", tree, other},
                             absl::Minutes(5)));
}

}  // namespace pcachefs
