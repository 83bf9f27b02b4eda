#include "iobackend/file_io.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace pcachefs {
namespace {

std::string DescribeTransfer(absl::string_view operation,
                             absl::string_view device, uint64_t offset,
                             uint64_t length) {
  return absl::StrCat(device, ": ", operation, " of ", length,
                      " bytes at offset ", offset);
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

FileDescriptor OpenFile(const std::string& path, int flags) {
  int fd;
  do {
    fd = open(path.c_str(), flags | O_CLOEXEC, 0600);
  } while (fd < 0 && errno == EINTR);
  return FileDescriptor(fd);
}

absl::Status PathError(absl::string_view operation, absl::string_view path,
                       int error_number) {
  absl::Status status = absl::ErrnoToStatus(
      error_number, absl::StrCat(path, ": cannot ", operation));
  switch (error_number) {
    case EROFS:
      return absl::PermissionDeniedError(status.message());
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(status.message());
    case EBUSY:
    case ELOOP:
    case ENOTDIR:
    case EISDIR:
      return absl::FailedPreconditionError(status.message());
    default:
      return status;
  }
}

absl::Status IoError(absl::string_view operation, absl::string_view device,
                     uint64_t offset, uint64_t length, int error_number) {
  const absl::Status status = absl::ErrnoToStatus(
      error_number, DescribeTransfer(operation, device, offset, length));
  if (error_number == ENOSPC || error_number == EDQUOT) {
    return absl::ResourceExhaustedError(status.message());
  }
  return absl::UnavailableError(status.message());
}

absl::Status EndOfDeviceError(absl::string_view operation,
                              absl::string_view device, uint64_t offset,
                              uint64_t length) {
  return absl::UnavailableError(
      absl::StrCat(DescribeTransfer(operation, device, offset, length),
                   ": the device ends there, it has become smaller"));
}

absl::Status CheckRange(absl::string_view device, uint64_t offset,
                        uint64_t length, uint64_t size) {
  if (offset <= size && length <= size - offset) return absl::OkStatus();
  return absl::OutOfRangeError(
      absl::StrCat(device, ": ", length, " bytes at offset ", offset,
                   " are beyond the end, size ", size));
}

absl::Status ReadFully(const std::string& device, int fd, uint64_t offset,
                       std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t count = pread(fd, out.data(), out.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return IoError("read", device, offset, out.size(), errno);
    if (count == 0) {
      return EndOfDeviceError("read", device, offset, out.size());
    }
    out = out.subspan(count);
    offset += count;
  }
  return absl::OkStatus();
}

absl::Status WriteFully(const std::string& device, int fd, uint64_t offset,
                        std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = pwrite(fd, bytes.data(), bytes.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return IoError("write", device, offset, bytes.size(), errno);
    if (count == 0) {
      return EndOfDeviceError("write", device, offset, bytes.size());
    }
    bytes = bytes.subspan(count);
    offset += count;
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> FileSize(const std::string& path, int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return PathError("stat", path, errno);
  if (S_ISREG(status.st_mode)) return status.st_size;
  if (!S_ISBLK(status.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(
        path,
        ": got something that is neither a regular file nor a block "
        "device"));
  }
  uint64_t size;
  if (ioctl(fd, BLKGETSIZE64, &size) != 0) {
    return PathError("ask for the size", path, errno);
  }
  return size;
}

std::string AbsolutePath(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.string();
}

std::string ReadFirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return "";
  return std::string(absl::StripAsciiWhitespace(line));
}

}  // namespace pcachefs
