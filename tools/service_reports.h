// What a service manager hears while the daemon starts and serves, from threads
// that end with these objects. Nothing happens without a manager.

#ifndef PCACHEFS_TOOLS_SERVICE_REPORTS_H_
#define PCACHEFS_TOOLS_SERVICE_REPORTS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "core/status.h"
#include "tools/service_manager.h"
#include "tools/ticker.h"

namespace pcachefs {

// While the daemon starts: more time, as long as the process does something. A
// replay computes and reads; a backing device that hangs does neither, and then
// the manager's timeout is right to end the start.
class StartReports {
 public:
  // `manager` outlives it.
  explicit StartReports(
      const ServiceManager& manager,
      absl::Duration period = absl::Seconds(10));

 private:
  std::unique_ptr<Ticker> ticker_;
};

// From then on: signs of life, each after the mount has answered a request, and
// what is going on. Two threads: status may wait for an attach, which is no
// reason to be killed.
//
// A mount that does not answer holds its thread until the mount is gone, so
// these must be destroyed after the server has unmounted.
class ServingReports {
 public:
  ServingReports(const ServiceManager& manager, const std::string& mountpoint,
                 absl::AnyInvocable<CacheStatus()> status,
                 absl::Duration period = absl::Seconds(5));

 private:
  std::unique_ptr<Ticker> alive_;
  std::unique_ptr<Ticker> status_;
};

// One line: how many images, how much is dirty, what is not as it should be.
std::string DescribeServing(const CacheStatus& status);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SERVICE_REPORTS_H_
