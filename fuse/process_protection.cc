#include "fuse/process_protection.h"

#include <glog/logging.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57  // Linux 5.6
#endif

namespace pcachefs {
namespace {

// Under a limit, locking the future makes later allocations fail: worse than
// not locking.
bool MayLockMemory() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return false;
  if (limit.rlim_cur == RLIM_INFINITY) return true;
  limit.rlim_cur = limit.rlim_max = RLIM_INFINITY;
  return setrlimit(RLIMIT_MEMLOCK, &limit) == 0;
}

}  // namespace

ProcessProtection ProtectProcess() {
  ProcessProtection protection;
  protection.is_io_flusher = prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0;
  PLOG_IF(WARNING, !protection.is_io_flusher)
      << "cannot mark the daemon as an I/O flusher (needs CAP_SYS_RESOURCE)";

  // Only what is used: a mapping of a large file would be read in at once.
  protection.is_memory_locked =
      MayLockMemory() && mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0;
  LOG_IF(WARNING, !protection.is_memory_locked)
      << "memory is not locked: raise the memlock limit";
  return protection;
}

}  // namespace pcachefs
