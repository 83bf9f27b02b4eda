#include "iobackend/direct_access.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Not in the headers of older systems.
#ifdef STATX_DIOALIGN
constexpr bool kHeadersKnowDirectAlignment = true;
#else
constexpr bool kHeadersKnowDirectAlignment = false;
#endif

struct Alignment {
  uint32_t offset = 0;  // 0: no direct access
  uint32_t memory = 0;
};

// False if the system cannot tell.
bool AskSystem(int fd, Alignment* alignment) {
#ifdef STATX_DIOALIGN
  struct statx status;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) != 0 ||
      (status.stx_mask & STATX_DIOALIGN) == 0) {
    return false;
  }
  *alignment = {status.stx_dio_offset_align, status.stx_dio_mem_align};
#else
  (void)fd;
  (void)alignment;
#endif
  return kHeadersKnowDirectAlignment;
}

Alignment TryReads(int direct_fd) {
  alignas(kBlockSize) static thread_local char block[kBlockSize];
  for (const uint32_t size : {kSectorSize, kBlockSize}) {
    if (pread(direct_fd, block, size, 0) >= 0) return {size, size};
  }
  return {};
}

Alignment FindAlignment(int direct_fd) {
  Alignment alignment;
  if (AskSystem(direct_fd, &alignment)) return alignment;
  int logical_block_size;
  if (ioctl(direct_fd, BLKSSZGET, &logical_block_size) == 0) {
    const auto size = static_cast<uint32_t>(logical_block_size);
    return {size, size};
  }
  return TryReads(direct_fd);
}

}  // namespace

DirectAccess OpenDirectAccess(const std::string& path, int fd, bool read_only) {
  // By descriptor, so that it is the same inode whatever happens to the path;
  // by path where /proc is missing.
  const int flags = (read_only ? O_RDONLY : O_RDWR) | O_DIRECT;
  FileDescriptor file = OpenFile(absl::StrCat("/proc/self/fd/", fd), flags);
  if (!file.is_open()) file = OpenFile(path, flags);
  struct stat buffered, direct;
  if (!file.is_open() || fstat(fd, &buffered) != 0 ||
      fstat(file.get(), &direct) != 0 || buffered.st_ino != direct.st_ino ||
      buffered.st_dev != direct.st_dev) {
    return {};
  }

  const Alignment alignment = FindAlignment(file.get());
  if (alignment.offset == 0 || alignment.offset > kBlockSize ||
      alignment.memory > kBlockSize) {
    return {};
  }
  DirectAccess access;
  access.file = std::move(file);
  access.granule = alignment.offset <= kSectorSize ? kSectorSize : kBlockSize;
  access.memory_alignment = alignment.memory == 0 ? 1 : alignment.memory;
  return access;
}

}  // namespace pcachefs
