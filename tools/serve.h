// Opens a cache, attaches its images, mounts and serves them until the end.

#ifndef PCACHEFS_TOOLS_SERVE_H_
#define PCACHEFS_TOOLS_SERVE_H_

#include "absl/status/status.h"
#include "tools/settings.h"
#include "tools/start_report.h"
#include "tools/supervisor_link.h"

namespace pcachefs {

// Requires: SIGTERM, SIGINT and SIGHUP are blocked, no thread runs yet, the
// mountpoint is checked. A cache file that this call has made is removed again
// if it fails before the mount answers. An error after that was logged here.
//
// Under a supervisor (`link` not null) the mount may be there already, and is
// taken over; it stays when the cache is handed over.
absl::Status Serve(const Settings& settings, StartReport& report,
                   SupervisorLink* link = nullptr);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SERVE_H_
