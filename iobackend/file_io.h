// Descriptors, complete transfers and the wording of I/O errors: what all
// devices of this directory share.

#ifndef PCACHEFS_IOBACKEND_FILE_IO_H_
#define PCACHEFS_IOBACKEND_FILE_IO_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

// Owns a descriptor; closes it.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// open(2) with O_CLOEXEC, repeated when interrupted. Sets errno on failure.
FileDescriptor OpenFile(const std::string& path, int flags);

// The status of a failed open, stat or the like of `path`: NotFound,
// PermissionDenied, ResourceExhausted, FailedPrecondition (in use), ...
absl::Status PathError(absl::string_view operation, absl::string_view path,
                       int error_number);

// The status of a failed transfer: ResourceExhausted if the device is full,
// else Unavailable.
absl::Status IoError(absl::string_view operation, absl::string_view device,
                     uint64_t offset, uint64_t length, int error_number);

// The status of a transfer that met the end of the device before its own.
absl::Status EndOfDeviceError(absl::string_view operation,
                              absl::string_view device, uint64_t offset,
                              uint64_t length);

// OutOfRange unless [offset, offset + length) is within `size` bytes.
absl::Status CheckRange(absl::string_view device, uint64_t offset,
                        uint64_t length, uint64_t size);

// Whole transfers: short ones are continued, interrupted ones repeated.
absl::Status ReadFully(const std::string& device, int fd, uint64_t offset,
                       std::span<std::byte> out);
absl::Status WriteFully(const std::string& device, int fd, uint64_t offset,
                        std::span<const std::byte> bytes);

// Bytes of a regular file or block device; FailedPrecondition for others.
absl::StatusOr<uint64_t> FileSize(const std::string& path, int fd);

// `path` from the root, symbolic links and ".." untouched.
std::string AbsolutePath(const std::string& path);

// The first line of a small file, as of sysfs, without white space around;
// empty if it cannot be read.
std::string ReadFirstLine(const std::string& path);

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_FILE_IO_H_
