#include "tools/commands/draining.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fuse/status_json.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"
#include "tools/progress_bar.h"

namespace pcachefs {

absl::StatusOr<Json> RunWithProgress(const ControlClient& client,
                                     const std::string& title,
                                     const Json& request) {
  ProgressBar bar(title);
  const auto show = [&bar](const Json& answer) {
    const uint64_t total = NumberOf(answer, "start_dirty_bytes");
    // Writes that come meanwhile may make it more than at the start.
    const uint64_t left = std::min(NumberOf(answer, "dirty_bytes"), total);
    bar.Update(answer.value("done", false) ? total : total - left, total,
               absl::Seconds(answer.value("seconds", 0.0)));
  };
  return client.RunOperation(request, show);
}

absl::StatusOr<Json> DrainWithProgress(const ControlClient& client,
                                       const std::string& name) {
  return RunWithProgress(client, "drain", {{"verb", "drain"}, {"name", name}});
}

}  // namespace pcachefs
