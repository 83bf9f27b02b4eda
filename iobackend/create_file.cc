#include "iobackend/create_file.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "iobackend/device_lock.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

absl::Status WriteZeroes(const std::string& path, int fd, uint64_t size) {
  const std::vector<std::byte> zeroes(kMiB);
  for (uint64_t offset = 0; offset < size; offset += zeroes.size()) {
    const size_t length = std::min<uint64_t>(zeroes.size(), size - offset);
    RETURN_IF_ERROR(
        WriteFully(path, fd, offset, std::span(zeroes).first(length)));
  }
  return absl::OkStatus();
}

// Before fallocate(), which takes all the space there is, away from everybody,
// until it notices that this is not enough.
absl::Status CheckSpace(const std::string& path, int fd, uint64_t size) {
  struct statvfs file_system;
  if (fstatvfs(fd, &file_system) != 0) {
    return PathError("ask for the space", path, errno);
  }
  const bool is_limited = file_system.f_blocks != 0;
  const uint64_t blocks = DivideRoundingUp(size, file_system.f_frsize);
  if (!is_limited || blocks <= file_system.f_bavail) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      path, ": no space on the file system: got ",
      file_system.f_bavail * file_system.f_frsize, " bytes, wanted ", size));
}

absl::Status Allocate(const std::string& path, int fd, uint64_t size) {
  int result;
  do {
    result = fallocate(fd, 0, 0, size);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return absl::OkStatus();
  if (errno != EOPNOTSUPP && errno != ENOSYS) {
    return PathError("allocate space", path, errno);
  }
  return WriteZeroes(path, fd, size);
}

absl::Status SyncDirectoryOf(const std::string& path) {
  const std::string directory =
      std::filesystem::path(AbsolutePath(path)).parent_path().string();
  const FileDescriptor file = OpenFile(directory, O_RDONLY | O_DIRECTORY);
  // Some file systems have no fsync of directories.
  if (!file.is_open() || (fsync(file.get()) != 0 && errno != EINVAL)) {
    return PathError("make the directory durable", directory, errno);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<FileDescriptor> CreateFile(const std::string& path,
                                          uint64_t size) {
  FileDescriptor file = OpenFile(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
  if (!file.is_open()) return PathError("create", path, errno);
  absl::Cleanup remove = [&path] { unlink(path.c_str()); };

  RETURN_IF_ERROR(LockDevice(file.get(), LockKind::kExclusive, path));
  RETURN_IF_ERROR(CheckSpace(path, file.get(), size));
  RETURN_IF_ERROR(Allocate(path, file.get(), size));
  if (fsync(file.get()) != 0) return PathError("make durable", path, errno);
  RETURN_IF_ERROR(SyncDirectoryOf(path));
  std::move(remove).Cancel();
  return file;
}

}  // namespace pcachefs
