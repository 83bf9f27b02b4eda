#include "tools/commands/get.h"

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"

namespace pcachefs {
namespace {

absl::StatusOr<int> Run(const Arguments& arguments) {
  const ControlClient client(arguments.Word(0));
  ASSIGN_OR_RETURN(const Json answer,
                   client.Call({{"verb", "get"},
                                {"name", arguments.Word(1)},
                                {"key", arguments.Word(2)}}));
  if (arguments.json()) {
    PrintJson(answer);
    return 0;
  }
  for (const auto& [key, value] : answer["values"].items()) {
    PrintText(
        absl::StrCat(key, "=", TextOf(answer["values"], key.c_str()), "\n"));
  }
  return 0;
}

}  // namespace

Command GetCommand() {
  return {.name = "get",
          .usage = "MOUNT NAME [KEY]",
          .help =
              "Prints the settings of an image, or one: gc_percent, "
              "cache_mode.",
          .min_words = 2,
          .max_words = 3,
          .run = Run};
}

}  // namespace pcachefs
