#include "tools/commands/flush.h"

#include "absl/status/statusor.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"

namespace pcachefs {
namespace {

absl::StatusOr<int> Run(const Arguments& arguments) {
  const ControlClient client(arguments.Word(0));
  ASSIGN_OR_RETURN(
      const Json answer,
      client.RunOperation({{"verb", "flush"}, {"name", arguments.Word(1)}},
                          [](const Json& /*answer*/) {}));
  if (arguments.json()) PrintJson(answer);
  return 0;
}

}  // namespace

Command FlushCommand() {
  return {.name = "flush",
          .usage = "MOUNT [NAME]",
          .help =
              "Makes everything that was acknowledged durable on the cache "
              "device, as fsync does.",
          .min_words = 1,
          .max_words = 2,
          .run = Run};
}

}  // namespace pcachefs
