#include "iobackend/create_file.h"

#include <fcntl.h>
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
  RETURN_IF_ERROR(Allocate(path, file.get(), size));
  if (fsync(file.get()) != 0) return PathError("make durable", path, errno);
  RETURN_IF_ERROR(SyncDirectoryOf(path));
  std::move(remove).Cancel();
  return file;
}

}  // namespace pcachefs
