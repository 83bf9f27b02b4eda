// Draining with a progress bar, for the verbs that drain.

#ifndef PCACHEFS_TOOLS_COMMANDS_DRAINING_H_
#define PCACHEFS_TOOLS_COMMANDS_DRAINING_H_

#include <string>

#include "absl/status/statusor.h"
#include "fuse/status_json.h"
#include "tools/control_client.h"

namespace pcachefs {

// Begins an operation and returns when it has ended, meanwhile showing how much
// of what was dirty at its start is written back; the daemon's last answer.
absl::StatusOr<Json> RunWithProgress(const ControlClient& client,
                                     const std::string& title,
                                     const Json& request);

// Returns when what was dirty at the call is written back; the daemon's last
// answer. An empty name means all images.
absl::StatusOr<Json> DrainWithProgress(const ControlClient& client,
                                       const std::string& name);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_DRAINING_H_
