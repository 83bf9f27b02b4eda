// What O_DIRECT asks of offsets, lengths and memory on a device.

#ifndef PCACHEFS_IOBACKEND_DIRECT_ACCESS_H_
#define PCACHEFS_IOBACKEND_DIRECT_ACCESS_H_

#include <cstdint>
#include <string>

#include "iobackend/file_io.h"

namespace pcachefs {

struct DirectAccess {
  FileDescriptor file;  // not open: the device has no such access
  // Powers of two. Where sectors cannot be addressed, kBlockSize, so that a
  // direct transfer covers whole pages and never shares one with a transfer
  // through the page cache.
  uint32_t granule = 0;           // of offsets and lengths
  uint32_t memory_alignment = 0;  // of buffers
};

// Opens the device behind `fd`, which was opened by `path`, once more for
// direct access. Asks statx(STATX_DIOALIGN); kernels and file systems that do
// not know are tried out with reads.
DirectAccess OpenDirectAccess(const std::string& path, int fd, bool read_only);

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_DIRECT_ACCESS_H_
