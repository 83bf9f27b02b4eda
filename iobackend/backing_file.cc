#include "iobackend/backing_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "iobackend/device_identity.h"
#include "iobackend/device_lock.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

absl::Status OpenError(const std::string& spec, bool read_only,
                       int error_number) {
  const absl::Status status = PathError("open", spec, error_number);
  if (read_only || status.code() != absl::StatusCode::kPermissionDenied) {
    return status;
  }
  return absl::PermissionDeniedError(absl::StrCat(
      status.message(),
      "; wanted to write: make it writable or attach it read-only"));
}

// The message of a block device that is claimed (EBUSY) names its holder.
absl::Status ClaimedError(const std::string& spec) {
  const FileDescriptor file = OpenFile(spec, O_RDONLY);
  std::string who = "block device";
  if (auto identity = IdentifyDevice(spec, file.get()); identity.ok()) {
    who = Describe(*identity);
  }
  return absl::FailedPreconditionError(
      absl::StrCat(spec, " (", who, "): ", DescribeLockHolder(file.get()),
                   ", as a mount for example, wanted exclusive use"));
}

absl::StatusOr<FileDescriptor> OpenBuffered(const std::string& spec,
                                            bool read_only) {
  struct stat status;
  if (stat(spec.c_str(), &status) != 0) {
    return PathError("find", spec, errno);
  }
  // Before the open, which could wait for a writer of a pipe.
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(
        spec,
        ": got something that is neither a regular file nor a block "
        "device"));
  }
  // Several may read a device, hence O_EXCL for writers only.
  const bool claim = S_ISBLK(status.st_mode) && !read_only;
  FileDescriptor file =
      OpenFile(spec, (read_only ? O_RDONLY : O_RDWR) | (claim ? O_EXCL : 0));
  int is_read_only = 0;
  if (file.is_open() && claim &&
      ioctl(file.get(), BLKROGET, &is_read_only) == 0 && is_read_only != 0) {
    // The kernel lets it be opened for writing and fails the writes.
    return OpenError(spec, read_only, EROFS);
  }
  if (file.is_open()) return file;
  if (claim && errno == EBUSY) return ClaimedError(spec);
  return OpenError(spec, read_only, errno);
}

}  // namespace

absl::StatusOr<std::unique_ptr<BackingFile>> BackingFile::Open(
    const std::string& spec, const Options& options) {
  const std::string path = AbsolutePath(spec);
  ASSIGN_OR_RETURN(FileDescriptor file, OpenBuffered(path, options.read_only));
  ASSIGN_OR_RETURN(BackingIdentity identity, IdentifyDevice(path, file.get()));
  const LockKind kind =
      options.read_only ? LockKind::kShared : LockKind::kExclusive;
  const std::string who = absl::StrCat(path, " (", Describe(identity), ")");
  RETURN_IF_ERROR(LockDevice(file.get(), kind, who));
  auto opened = absl::WrapUnique(
      new BackingFile(path, options, std::move(file), std::move(identity)));
  if (opened->has_direct_access()) {
    RETURN_IF_ERROR(LockRequests(opened->direct_.file.get(), kind, who));
  }
  return opened;
}

BackingFile::BackingFile(const std::string& spec, const Options& options,
                         FileDescriptor buffered, BackingIdentity identity)
    : spec_(spec),
      read_only_(options.read_only),
      buffered_(std::move(buffered)),
      identity_(std::move(identity)),
      size_(identity_.size) {
  if (options.direct) {
    direct_ = OpenDirectAccess(spec_, buffered_.get(), read_only_);
  }
  if (!has_direct_access()) {
    direct_.granule = kSectorSize;
    direct_.memory_alignment = 1;
  }
  direct_.granule = std::max(direct_.granule, options.min_granule);
  if (is_block_device()) {
    int logical_block_size;
    allocation_granule_ =
        ioctl(buffered_.get(), BLKSSZGET, &logical_block_size) == 0
            ? logical_block_size
            : kBlockSize;
  }
  RefreshAllocation();
}

absl::StatusOr<BackingDevice::Extent> BackingFile::FindExtent(
    uint64_t offset) const {
  const uint64_t size = this->size();
  if (offset >= size) return CheckRange(spec_, offset, 1, size);

  const BackingDevice::Extent all_data = {size - offset, false};
  const off_t data = lseek(buffered_fd(), offset, SEEK_DATA);
  if (data < 0 && errno == ENXIO) {
    return BackingDevice::Extent{size - offset, true};
  }
  if (data < 0) return all_data;
  // In whole sectors: one that is partly data is data.
  const uint64_t data_begin =
      std::min(RoundDown(static_cast<uint64_t>(data), kSectorSize), size);
  if (data_begin > offset) {
    return BackingDevice::Extent{data_begin - offset, true};
  }
  const off_t hole = lseek(buffered_fd(), data, SEEK_HOLE);
  if (hole < 0) return all_data;
  const uint64_t data_end =
      std::min(RoundUp(static_cast<uint64_t>(hole), kSectorSize), size);
  return BackingDevice::Extent{data_end - offset, false};
}

void BackingFile::RefreshAllocation() {
  struct stat status;
  constexpr uint64_t kStatBlockSize = 512;
  allocated_bytes_ = is_block_device() || fstat(buffered_fd(), &status) != 0
                         ? size()
                         : status.st_blocks * kStatBlockSize;
}

absl::Status BackingFile::Refresh() {
  ASSIGN_OR_RETURN(const uint64_t new_size, FileSize(spec_, buffered_fd()));
  uint64_t old_size = size();
  if (new_size < old_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(spec_, ": became smaller: got ", new_size,
                     " bytes, wanted at least ", old_size));
  }
  if (!IsAligned(new_size, kSectorSize)) {
    return absl::InvalidArgumentError(
        absl::StrCat(spec_, ": got a size of ", new_size,
                     " bytes, wanted a multiple of ", kSectorSize));
  }
  // Another thread may have seen more by now.
  while (old_size < new_size &&
         !size_.compare_exchange_weak(old_size, new_size)) {
  }
  RefreshAllocation();
  return absl::OkStatus();
}

absl::Status BackingFile::Validate(const BackingRequest& request) const {
  using Operation = BackingRequest::Operation;
  if (request.operation == Operation::kFlush) return absl::OkStatus();
  if (request.operation != Operation::kRead && read_only_) {
    return absl::FailedPreconditionError(
        absl::StrCat(spec_, ": write to a device opened read-only"));
  }
  if (!IsAligned(request.offset | request.length, kSectorSize)) {
    return absl::InvalidArgumentError(absl::StrCat(
        spec_, ": got a request of ", request.length, " bytes at offset ",
        request.offset, ", wanted multiples of ", kSectorSize));
  }
  RETURN_IF_ERROR(CheckRange(spec_, request.offset, request.length, size()));
  if (request.operation != Operation::kRead &&
      request.operation != Operation::kWrite) {
    return absl::OkStatus();
  }
  uint64_t length = 0;
  for (const auto& buffer : request.buffers) length += buffer.size();
  if (length == request.length) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(spec_, ": got buffers of ", length,
                   " bytes for a request of ", request.length));
}

}  // namespace pcachefs
