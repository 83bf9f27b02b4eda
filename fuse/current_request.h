// The request that this thread handles, where libfuse does not tell: the kernel
// numbers requests, and marks those that it has sent before, to a daemon that
// died. Both are zero unless a daemon under failover serves.

#ifndef PCACHEFS_FUSE_CURRENT_REQUEST_H_
#define PCACHEFS_FUSE_CURRENT_REQUEST_H_

#include <cstdint>

namespace pcachefs {

struct RingEntry;

struct CurrentRequest {
  uint64_t unique = 0;  // the same when it is sent again
  bool is_resent = false;
  RingEntry* ring_entry = nullptr;  // where it lies, if in a ring of ours
  bool is_taken = false;            // somebody is obliged to answer it
};

inline thread_local CurrentRequest current_request;

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_CURRENT_REQUEST_H_
