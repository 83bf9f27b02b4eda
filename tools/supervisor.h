// Keeps a mount while its daemons come and go.
//
// A process of one thread, beside the daemon: it starts the daemon, keeps the
// descriptors of the mount and the state of failover, and starts a successor
// when the daemon dies or is to be upgraded. It never opens the cache or a
// backing device, and takes no part in any request.
//
// Its own death: without a service manager a spare copy of it, asleep until
// then, takes its place. Under systemd everything is in its descriptor store,
// and the next process of the service goes on.
//
// docs/failover.md has the whole picture.

#ifndef PCACHEFS_TOOLS_SUPERVISOR_H_
#define PCACHEFS_TOOLS_SUPERVISOR_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "tools/settings.h"
#include "tools/start_report.h"

namespace pcachefs {

struct SupervisorOptions {
  std::string mountpoint;
  // Of daemons, without the mountpoint and the program's name.
  std::vector<std::string> arguments;
};

// Whether a kernel of that release (uname -r) sends requests again.
bool KernelKeepsRequests(absl::string_view release);

// Supervises until the mount has gone; the exit code. Signals as for Serve.
int Supervise(const SupervisorOptions& options, StartReport& report);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SUPERVISOR_H_
