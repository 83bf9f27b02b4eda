// The lock that every open device carries, so that no two daemons or tools use
// it at a time.

#ifndef PCACHEFS_IOBACKEND_DEVICE_LOCK_H_
#define PCACHEFS_IOBACKEND_DEVICE_LOCK_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

enum class LockKind {
  kShared,     // several may look
  kExclusive,  // one serves, nobody looks
};

// Locks the inode behind `fd` for the life of the open file description:
// flock(2), so other paths to the file (hard and symbolic links) and a second
// open within this process meet the same lock. FailedPrecondition, naming the
// holder if /proc/locks tells, when it is taken. `description` begins the
// message.
absl::Status LockDevice(int fd, LockKind kind, absl::string_view description);

// "in use by process 123", or a general sentence if the holder of a lock on the
// inode behind `fd` cannot be learnt.
std::string DescribeLockHolder(int fd);

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_DEVICE_LOCK_H_
