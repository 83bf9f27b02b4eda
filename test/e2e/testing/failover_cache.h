// A cache that is served with --failover: its daemon may die, the mount stays.

#ifndef PCACHEFS_TEST_E2E_TESTING_FAILOVER_CACHE_H_
#define PCACHEFS_TEST_E2E_TESTING_FAILOVER_CACHE_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/served_cache.h"

namespace pcachefs {

std::vector<pid_t> ChildrenOf(pid_t pid);

// Not thread-safe. Everything that serves the cache ends with it.
class FailoverCache {
 public:
  explicit FailoverCache(ServedCacheOptions options = {});
  ~FailoverCache();

  ServedCache& served() { return served_; }
  // Waits for the daemon and for the supervisor's spare.
  absl::Status Start();

  // Of the first supervisor, which is the process that was started.
  pid_t supervisor_pid() const { return served_.pid(); }
  // Who serves now; 0 if nobody answers.
  pid_t DaemonPid();
  // Of status: "restarts" and so on.
  nlohmann::json Failover();

  // kill -9 of the one who serves.
  absl::Status KillDaemon();
  // Until so many deaths have been survived.
  absl::Status AwaitRestarts(uint64_t count);

  // While `load` runs: kills, at another moment of its work each time, and
  // waits for the successor. Prints the pauses. An error if the load ends
  // before, or a kill is not survived.
  absl::Status KillUnder(uint64_t count, const std::vector<std::string>& load);

 private:
  ServedCache served_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_E2E_TESTING_FAILOVER_CACHE_H_
