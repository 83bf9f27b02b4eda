// What the daemon says of itself, beside the cache's own status.

#ifndef PCACHEFS_FUSE_SERVER_FACTS_H_
#define PCACHEFS_FUSE_SERVER_FACTS_H_

#include <cstdint>
#include <string>

namespace pcachefs {

struct ServerFacts {
  std::string version;
  std::string libfuse_version;
  std::string liburing_version;
  std::string mountpoint;
  std::string transport;
  std::string transport_reason;
  int threads = 0;  // of the classic channel
  int64_t pid = 0;
  double uptime_seconds = 0;
  bool is_io_flusher = false;
  bool is_memory_locked = false;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_SERVER_FACTS_H_
