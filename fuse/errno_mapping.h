// Which errno the kernel is told for an absl::Status.

#ifndef PCACHEFS_FUSE_ERRNO_MAPPING_H_
#define PCACHEFS_FUSE_ERRNO_MAPPING_H_

#include "absl/status/status.h"

namespace pcachefs {

// 0 for OK, else a positive errno.
int ErrnoOf(const absl::Status& status);

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_ERRNO_MAPPING_H_
