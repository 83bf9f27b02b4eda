#include "tools/commands/grow.h"

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
  ASSIGN_OR_RETURN(const Json answer, client.Call({{"verb", "grow"}}));
  if (arguments.json()) {
    PrintJson(answer);
  } else {
    PrintText(absl::StrCat(NumberOf(answer, "added"), " segments added, ",
                           NumberOf(answer, "segments"), " in all\n"));
  }
  return 0;
}

}  // namespace

Command GrowCommand() {
  return {.name = "grow",
          .usage = "MOUNT",
          .help =
              "Takes what the cache device has become larger into use; a start "
              "does that too.\nThe new segments are in nobody's share: new "
              "images get them, or those whose\nimage_cache_size is set. What "
              "a backing device has become larger is seen without\nbeing "
              "asked for.",
          .min_words = 1,
          .max_words = 1,
          .run = Run};
}

}  // namespace pcachefs
