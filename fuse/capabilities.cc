#include "fuse/capabilities.h"

#include <cstdint>

#include "fuse/libfuse.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Requests that wait in the kernel count as background ones when they come by
// asynchronous direct I/O: a loop device has 128, QEMU up to 256 of them.
constexpr unsigned kMaxBackground = 512;

void Set(fuse_conn_info* info, uint64_t capability, bool wanted) {
#if PCACHEFS_HAVE_FEATURE_FLAGS
  if (wanted) {
    fuse_set_feature_flag(info, capability);  // unless the kernel lacks it
  } else {
    fuse_unset_feature_flag(info, capability);
  }
#else
  const unsigned bit = static_cast<unsigned>(capability);
  if (wanted) {
    info->want |= info->capable & bit;
  } else {
    info->want &= ~bit;
  }
#endif
}

}  // namespace

void RequestCapabilities(fuse_conn_info* info) {
  // Several reads, and direct requests, of one file at a time.
  Set(info, FUSE_CAP_ASYNC_READ, true);
  Set(info, FUSE_CAP_ASYNC_DIO, true);
  // Look-ups need no lock of the directory.
  Set(info, FUSE_CAP_PARALLEL_DIROPS, true);

  // Images are opened for direct I/O, there is no page cache to keep in step,
  // and a write must not wait in one.
  Set(info, FUSE_CAP_AUTO_INVAL_DATA, false);
  Set(info, FUSE_CAP_WRITEBACK_CACHE, false);
  // Data is copied to and from memory anyway; pipes cost two system calls.
  Set(info, FUSE_CAP_SPLICE_READ, false);
  Set(info, FUSE_CAP_SPLICE_WRITE, false);
  Set(info, FUSE_CAP_SPLICE_MOVE, false);
  // The kernel keeps locks by itself if we leave them alone, as QEMU needs.
  Set(info, FUSE_CAP_POSIX_LOCKS, false);
  Set(info, FUSE_CAP_FLOCK_LOCKS, false);
  // Truncation is refused; that needs a request of its own to answer.
  Set(info, FUSE_CAP_ATOMIC_O_TRUNC, false);
  // Directories are small.
  Set(info, FUSE_CAP_READDIRPLUS, false);
  Set(info, FUSE_CAP_READDIRPLUS_AUTO, false);
#ifdef FUSE_CAP_DIRECT_IO_ALLOW_MMAP
  // Direct I/O would otherwise forbid shared mappings.
  Set(info, FUSE_CAP_DIRECT_IO_ALLOW_MMAP, true);
#endif

  info->max_write = kMiB;
  info->max_background = kMaxBackground;
  info->congestion_threshold = kMaxBackground * 3 / 4;
  info->time_gran = 1;
#if PCACHEFS_HAVE_FEATURE_FLAGS
  // Nothing here waits for long without an answer of its own; without
  // interrupts libfuse takes no lock of the session's for every request.
  info->no_interrupt = 1;
#endif
}

}  // namespace pcachefs
