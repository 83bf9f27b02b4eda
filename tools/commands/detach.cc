#include "tools/commands/detach.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/draining.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"

namespace pcachefs {
namespace {

// As the control file has it.
absl::StatusOr<std::string> HowOf(const Arguments& arguments) {
  std::string how;
  int count = 0;
  for (const auto& [flag, word] :
       {std::pair("drain", "drain"), std::pair("keep_dirty", "keep_dirty"),
        std::pair("force", "discard")}) {
    if (!arguments.Has(flag)) continue;
    how = word;
    ++count;
  }
  if (count <= 1) return how;
  return absl::InvalidArgumentError(
      "detach: want one of --drain, --keep_dirty and --force");
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  ASSIGN_OR_RETURN(const std::string how, HowOf(arguments));
  const ControlClient client(arguments.Word(0));
  ASSIGN_OR_RETURN(const Json answer,
                   RunWithProgress(client, "detach",
                                   {{"verb", "detach"},
                                    {"name", arguments.Word(1)},
                                    {"how", how}}));
  if (arguments.json()) PrintJson(answer);
  return 0;
}

}  // namespace

Command DetachCommand() {
  return {.name = "detach",
          .usage = "MOUNT NAME [--drain|--keep_dirty|--force]",
          .help =
              "Ends the service of an image that nobody has open (a loop "
              "device has it open).\nIts part of the cache is free then, and "
              "its backing device holds all of it. Refused\nwhile dirty data "
              "is in the cache: --drain writes it back first; --keep_dirty "
              "keeps\nall that is cached, dirty data too, for the next "
              "attach, and the image does not\ncome back by itself; --force "
              "throws dirty data away, also of an image that is\nlisted as "
              "detached or missing, and forgets which ranges were lost on the "
              "cache device;\nwithout it an image that has some stays.",
          .min_words = 2,
          .max_words = 2,
          .flags = {"drain", "keep_dirty", "force"},
          .run = Run};
}

}  // namespace pcachefs
