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
// message. A holder that has died and whose requests are still on their way is
// waited for, some seconds, and so is udev, which locks what it looks at.
absl::Status LockDevice(int fd, LockKind kind, absl::string_view description);

// The same for another open file description of a device that LockDevice has
// locked for us: requests of a process that died keep theirs, and so its lock,
// until they have ended, and one that ends late would overwrite what we write.
// Nobody else has it, hence it is always waited for.
absl::Status LockRequests(int fd, LockKind kind,
                          absl::string_view description);

// "in use by process 123", or a general sentence if the holder of a lock on the
// inode behind `fd` cannot be learnt.
std::string DescribeLockHolder(int fd);

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_DEVICE_LOCK_H_
