// Talks to a running daemon through MOUNT/.pcache/control.

#ifndef PCACHEFS_TOOLS_CONTROL_CLIENT_H_
#define PCACHEFS_TOOLS_CONTROL_CLIENT_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fuse/status_json.h"

namespace pcachefs {

class ControlClient {
 public:
  // `mount`: the mountpoint. Nothing is opened before the first call.
  explicit ControlClient(std::string mount) : mount_(std::move(mount)) {}

  // One request, one answer. The daemon's error as a Status; NotFound if no
  // pcachefs is mounted there; Unavailable if its daemon has died.
  absl::StatusOr<Json> Call(const Json& request) const;

  // A request that begins an operation; waits for its end, and meanwhile shows
  // every answer of the daemon's to `progress`. The last answer.
  absl::StatusOr<Json> RunOperation(
      const Json& request, absl::FunctionRef<void(const Json&)> progress) const;

  // The daemon's status; of one image if `name` is not empty.
  absl::StatusOr<Json> Status(const std::string& name) const;

  // Whether the mount is still there and answers.
  bool IsAlive() const;

 private:
  absl::StatusOr<Json> CallOnce(const Json& request) const;
  std::string control_path() const { return mount_ + "/.pcache/control"; }

  const std::string mount_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_CONTROL_CLIENT_H_
