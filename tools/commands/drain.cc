#include "tools/commands/drain.h"

#include "absl/status/statusor.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/draining.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"

namespace pcachefs {
namespace {

absl::StatusOr<int> Run(const Arguments& arguments) {
  const ControlClient client(arguments.Word(0));
  ASSIGN_OR_RETURN(const Json answer,
                   DrainWithProgress(client, arguments.Word(1)));
  if (arguments.json()) PrintJson(answer);
  return 0;
}

}  // namespace

Command DrainCommand() {
  return {.name = "drain",
          .usage = "MOUNT [NAME]",
          .help =
              "Writes dirty data back to the backing device of one image, "
              "or of all,\nand returns when none of what was dirty is "
              "left. Shows progress on a terminal.",
          .min_words = 1,
          .max_words = 2,
          .run = Run};
}

}  // namespace pcachefs
