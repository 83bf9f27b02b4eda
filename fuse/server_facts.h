// What the daemon says of itself, beside the cache's own status.

#ifndef PCACHEFS_FUSE_SERVER_FACTS_H_
#define PCACHEFS_FUSE_SERVER_FACTS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace pcachefs {

// Of a mount that outlives its daemons.
struct FailoverFacts {
  // Answered with EIO since it killed one daemon after the other.
  struct PoisonedRequest {
    uint32_t opcode = 0;  // the kernel's
    uint64_t inode = 0;
    uint64_t offset = 0;
    uint32_t length = 0;
  };
  bool is_enabled = false;
  bool is_planned_only = false;  // a death of the daemon is the end
  int64_t supervisor_pid = 0;
  bool has_descriptor_store = false;  // of systemd, beside the supervisor
  uint64_t restarts = 0;  // after deaths
  uint64_t upgrades = 0;
  double last_pause_seconds = 0;
  double longest_pause_seconds = 0;
  uint64_t poisoned_count = 0;
  std::vector<PoisonedRequest> poisoned;  // the last ones
};

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
  FailoverFacts failover;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_SERVER_FACTS_H_
