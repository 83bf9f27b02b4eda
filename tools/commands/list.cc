#include "tools/commands/list.h"

#include "absl/status/statusor.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"
#include "tools/text_table.h"

namespace pcachefs {
namespace {

absl::StatusOr<int> Run(const Arguments& arguments) {
  const ControlClient client(arguments.Word(0));
  ASSIGN_OR_RETURN(const Json answer, client.Call({{"verb", "list"}}));
  if (arguments.json()) {
    PrintJson(answer);
    return 0;
  }
  TextTable table({"NAME", ">SIZE", "MODE", "STATE", ">DIRTY", "BACKING"});
  for (const Json& image : answer["images"]) {
    table.AddRow({TextOf(image, "name"), SizeOf(image, "size"),
                  TextOf(image, "mode"), TextOf(image, "state"),
                  image["dirty_bytes"].is_null()
                      ? "?"
                      : SizeOf(image, "dirty_bytes"),
                  TextOf(image, "backing")});
  }
  PrintText(table.ToString());
  return 0;
}

}  // namespace

Command ListCommand() {
  return {.name = "list",
          .usage = "MOUNT",
          .help =
              "Lists the images that the cache of MOUNT knows. Those in state "
              "detached or missing are\nnot served; --json tells why.",
          .min_words = 1,
          .max_words = 1,
          .run = Run};
}

}  // namespace pcachefs
