// Keeps a daemon that block devices stand on from waiting for itself when
// memory is short: its allocations must not start writeback that it would have
// to serve (PR_SET_IO_FLUSHER), and its pages must not be swapped out to it.

#ifndef PCACHEFS_FUSE_PROCESS_PROTECTION_H_
#define PCACHEFS_FUSE_PROCESS_PROTECTION_H_

namespace pcachefs {

struct ProcessProtection {
  bool is_io_flusher = false;
  bool is_memory_locked = false;
};

// Does what the system allows and logs a line for what it does not. Threads and
// mappings made later inherit it: call it before there are any, and unlock
// large mappings of files.
ProcessProtection ProtectProcess();

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_PROCESS_PROTECTION_H_
