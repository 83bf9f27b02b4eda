// Gives up what the daemon has no use for, so that whoever takes it over by way
// of a hostile cache, backing device or server does not get it.

#ifndef PCACHEFS_TOOLS_PRIVILEGES_H_
#define PCACHEFS_TOOLS_PRIVILEGES_H_

#include <cstdint>

namespace pcachefs {

// Capabilities that stay, as a set of bits, if they were there:
//   SYS_ADMIN                      unmounting; FUSE passthrough
//   DAC_OVERRIDE, DAC_READ_SEARCH  attaching files of other users in use
//   NET_BIND_SERVICE               metrics at a port below 1024
uint64_t KeptCapabilities();

// Of this thread and those that it makes later: call it before there are
// others. It is too late for nothing but what it took away: what needs
// CAP_SYS_RESOURCE, as ProtectProcess() does, comes before.
//
// No set-user-id program gives anything back from here on, except for a daemon
// that may not mount itself: fusermount3 must be able to unmount for it. What
// cannot be given up is logged.
void DropPrivileges();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_PRIVILEGES_H_
