#include "tools/commands/set.h"

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/draining.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"

namespace pcachefs {
namespace {

absl::StatusOr<int> Run(const Arguments& arguments) {
  const std::string assignment = arguments.Word(2);
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "got '", assignment, "', want KEY=VALUE such as gc_percent=50"));
  }
  const ControlClient client(arguments.Word(0));
  const Json request = {{"verb", "set"},
                        {"name", arguments.Word(1)},
                        {"key", assignment.substr(0, equals)},
                        {"value", assignment.substr(equals + 1)}};
  // Another mode may have to wait until what is dirty is written back.
  const bool is_operation = request["key"] == "cache_mode";
  ASSIGN_OR_RETURN(const Json answer,
                   is_operation ? RunWithProgress(client, "set", request)
                                : client.Call(request));
  if (arguments.json()) PrintJson(answer);
  return 0;
}

}  // namespace

Command SetCommand() {
  return {.name = "set",
          .usage = "MOUNT NAME KEY=VALUE",
          .help = "Changes a setting of an image, for good; `pcachectl get MOUNT "
                  "NAME` lists them.\ncache_mode=writeback|writethrough|"
                  "writearound|writeonly|passthrough: returns when\nthe new "
                  "mode counts. From writeback or writeonly to another one "
                  "dirty data is\nwritten back first, with progress on a "
                  "terminal.",
          .min_words = 3,
          .max_words = 3,
          .run = Run};
}

}  // namespace pcachefs
