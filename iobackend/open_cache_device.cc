#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "iobackend/create_file.h"
#include "iobackend/device_lock.h"
#include "iobackend/file_cache_device.h"
#include "iobackend/file_io.h"
#include "iobackend/memory_cache_device.h"
#include "iobackend/open_device.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

using Media = MemoryCacheDevice::Media;

#ifndef STATX_ATTR_DAX
#define STATX_ATTR_DAX 0x00200000
#endif

absl::StatusOr<mode_t> FileType(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return PathError("find", path, errno);
  struct stat link;
  const bool is_link = lstat(path.c_str(), &link) == 0 && S_ISLNK(link.st_mode);
  // Links below /dev/disk are how block devices are named for good; a link to
  // a file could be somebody's way to have us write elsewhere.
  if (is_link && !S_ISBLK(status.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, ": got a symbolic link, wanted a file or a block device"));
  }
  return status.st_mode & S_IFMT;
}

absl::StatusOr<FileDescriptor> OpenExisting(const std::string& path,
                                            bool read_only) {
  ASSIGN_OR_RETURN(const mode_t type, FileType(path));
  if (type != S_IFREG && type != S_IFBLK && type != S_IFCHR) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, ": got something that is neither file nor block device"));
  }
  int flags = read_only ? O_RDONLY : O_RDWR;
  // O_EXCL keeps out mounts and other devices' nodes of the same disk. Several
  // may look at a device, so they do without.
  if (type == S_IFBLK) flags |= read_only ? 0 : O_EXCL;
  if (type != S_IFBLK) flags |= O_NOFOLLOW;
  FileDescriptor file = OpenFile(path, flags);
  if (!file.is_open() && errno == EBUSY) {
    const FileDescriptor holder = OpenFile(path, O_RDONLY);
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": ", DescribeLockHolder(holder.get()),
                     ", as a mount for example, wanted exclusive use"));
  }
  if (!file.is_open()) return PathError("open", path, errno);
  RETURN_IF_ERROR(LockDevice(
      file.get(), read_only ? LockKind::kShared : LockKind::kExclusive, path));
  return file;
}

bool IsTmpfs(int fd) {
  struct statfs file_system;
  return fstatfs(fd, &file_system) == 0 && (file_system.f_type == TMPFS_MAGIC ||
                                            file_system.f_type == RAMFS_MAGIC);
}

bool IsDaxFile(int fd) {
  struct statx status;
  return statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &status) == 0 &&
         (status.stx_attributes & STATX_ATTR_DAX) != 0;
}

absl::StatusOr<uint64_t> ReadNumber(const std::string& path) {
  uint64_t number;
  if (absl::SimpleAtoi(ReadFirstLine(path), &number)) return number;
  return absl::FailedPreconditionError(absl::StrCat(path, ": got no number"));
}

// A character device of persistent memory, /dev/daxX.Y.
absl::StatusOr<std::unique_ptr<CacheDevice>> OpenDaxDevice(
    const std::string& path, FileDescriptor file, dev_t number,
    bool read_only) {
  const std::string device =
      absl::StrCat("/sys/dev/char/", major(number), ":", minor(number));
  std::error_code error;
  const auto subsystem =
      std::filesystem::canonical(device + "/subsystem", error);
  if (error || subsystem.filename() != "dax") {
    return absl::FailedPreconditionError(absl::StrCat(
        path, ": got a character device that is not persistent memory"));
  }
  ASSIGN_OR_RETURN(const uint64_t size, ReadNumber(device + "/size"));
  ASSIGN_OR_RETURN(const uint64_t alignment, ReadNumber(device + "/align"));
  return MemoryCacheDevice::Create(path, std::move(file),
                                   {.media = Media::kDaxWithoutSync,
                                    .read_only = read_only,
                                    .size = size,
                                    .page_size = alignment});
}

absl::StatusOr<std::unique_ptr<CacheDevice>> MakeDevice(const std::string& path,
                                                        FileDescriptor file,
                                                        bool read_only,
                                                        bool is_new) {
  struct stat status;
  if (fstat(file.get(), &status) != 0) return PathError("stat", path, errno);
  if (S_ISCHR(status.st_mode)) {
    return OpenDaxDevice(path, std::move(file), status.st_rdev, read_only);
  }
  MemoryCacheDevice::Options options;
  options.read_only = read_only;
  options.is_new = is_new;
  options.page_size = sysconf(_SC_PAGESIZE);
  ASSIGN_OR_RETURN(options.size, FileSize(path, file.get()));
  if (S_ISREG(status.st_mode) && IsTmpfs(file.get())) {
    return MemoryCacheDevice::Create(path, std::move(file), options);
  }
  if (S_ISREG(status.st_mode) && IsDaxFile(file.get())) {
    options.media = Media::kDax;
    // A copy keeps the lock, which belongs to the open file.
    FileDescriptor copy(fcntl(file.get(), F_DUPFD_CLOEXEC, 0));
    auto device = MemoryCacheDevice::Create(path, std::move(copy), options);
    if (device.status().code() != absl::StatusCode::kUnimplemented) {
      return device;
    }
  }
  return FileCacheDevice::Create(path, std::move(file),
                                 {.read_only = read_only});
}

}  // namespace

absl::StatusOr<OpenedCacheDevice> OpenCacheDevice(
    const std::string& path, const CacheDeviceOptions& options) {
  OpenedCacheDevice opened;
  FileDescriptor file;
  if (options.create_size != 0) {
    auto created = CreateFile(path, options.create_size);
    opened.created = created.ok();
    if (created.ok()) {
      file = *std::move(created);
    } else if (created.status().code() != absl::StatusCode::kAlreadyExists) {
      return std::move(created).status();
    }
  }
  if (!opened.created) {
    ASSIGN_OR_RETURN(file, OpenExisting(path, options.read_only));
  }
  ASSIGN_OR_RETURN(opened.device,
                   MakeDevice(path, std::move(file), options.read_only,
                              opened.created));
  return opened;
}

}  // namespace pcachefs
