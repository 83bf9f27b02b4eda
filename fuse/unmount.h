// Takes a FUSE mount away without the session that made it.

#ifndef PCACHEFS_FUSE_UNMOUNT_H_
#define PCACHEFS_FUSE_UNMOUNT_H_

#include <string>

#include "absl/status/status.h"

namespace pcachefs {

// Lazily: what still has files of it open keeps them. As root directly, else
// with libfuse's helper. May be called in a process with threads.
absl::Status UnmountLazily(const std::string& mountpoint);

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_UNMOUNT_H_
