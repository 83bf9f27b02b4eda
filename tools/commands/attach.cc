#include "tools/commands/attach.h"

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"
#include "tools/image_specs.h"

namespace pcachefs {
namespace {

absl::StatusOr<int> Run(const Arguments& arguments) {
  Json request = {{"verb", "attach"}, {"name", arguments.Word(1)}};
  if (arguments.words.size() > 2) {
    // The daemon has another working directory.
    ASSIGN_OR_RETURN(const ImageSpec image,
                     ParseImageSpec(absl::StrCat(arguments.Word(1), "=",
                                                 arguments.Word(2))));
    request["spec"] = image.spec;
  }
  for (const char* flag : {"mode", "order", "image_cache_size"}) {
    if (arguments.Has(flag)) request[flag] = arguments.Flag(flag);
  }
  if (arguments.Has("read_only_backing")) request["read_only_backing"] = true;
  const ControlClient client(arguments.Word(0));
  ASSIGN_OR_RETURN(const Json answer,
                   client.RunOperation(request, [](const Json&) {}));
  if (arguments.json()) PrintJson(answer);
  return 0;
}

}  // namespace

Command AttachCommand() {
  return {.name = "attach",
          .usage = "MOUNT NAME [SPEC] [--mode=MODE] [--order=ORDER] "
                   "[--image_cache_size=SIZE] [--read_only_backing]",
          .help =
              "Serves one more image at MOUNT, with the backing device at "
              "SPEC. An image that the\ncache knows comes back with its data "
              "in the cache, and SPEC may be left out if the\ndevice is still "
              "where it was. A new one gets a share of the cache: an "
              "even one,\nif --image_cache_size does not say how much. Images "
              "whose share nobody asked for make\nroom for it. With "
              "--read_only_backing a new one never writes to its device:\nwhat "
              "is written to it stays in the cache.",
          .min_words = 2,
          .max_words = 3,
          .flags = {"mode", "order", "image_cache_size", "read_only_backing"},
          .run = Run};
}

}  // namespace pcachefs
