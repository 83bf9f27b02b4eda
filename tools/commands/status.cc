#include "tools/commands/status.h"

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"
#include "tools/text_table.h"

namespace pcachefs {
namespace {

constexpr int kExitDirty = 3;

std::string StateOf(const Json& json) {
  const std::string reason = TextOf(json, "state_reason");
  const std::string state = TextOf(json, "state");
  return reason.empty() ? state : absl::StrCat(state, " (", reason, ")");
}

std::string HeaderOf(const Json& status) {
  const Json& cache = status["cache"];
  const Json& server = status["server"];
  return absl::StrFormat(
      "cache      %s\n"
      "uuid       %s\n"
      "state      %s\n"
      "segments   %s of %s used, %s each\n"
      "transport  %s: %s\n"
      "daemon     pid %s, pcachefs %s, libfuse %s\n",
      TextOf(cache, "path"), TextOf(cache, "uuid"), StateOf(cache),
      TextOf(cache, "segments_used"), TextOf(cache, "segments"),
      SizeOf(cache, "segment_size"), TextOf(status, "transport"),
      TextOf(server, "transport_reason"), TextOf(server, "pid"),
      TextOf(status, "version"), TextOf(server, "libfuse_version"));
}

// Reads answered without the backing device, of those answered at all.
std::string HitRatio(const Json& image) {
  const uint64_t hits = NumberOf(image, "read_hits");
  const uint64_t reads = hits + NumberOf(image, "read_partial_hits") +
                         NumberOf(image, "read_misses");
  if (reads == 0) return "-";
  return absl::StrFormat(
      "%.1f%%", 100.0 * static_cast<double>(hits) / static_cast<double>(reads));
}

std::string TableOf(const Json& images) {
  TextTable table({"IMAGE", ">SIZE", "MODE", "ORDER", ">DIRTY", ">CACHED",
                   ">SEGMENTS", ">HITS", "STATE"});
  for (const Json& image : images) {
    table.AddRow({TextOf(image, "name"), SizeOf(image, "size"),
                  TextOf(image, "mode"), TextOf(image, "order"),
                  SizeOf(image, "dirty_bytes"), SizeOf(image, "cached_bytes"),
                  absl::StrCat(TextOf(image, "cache_used_segs"), "/",
                               TextOf(image, "cache_segs")),
                  HitRatio(image), StateOf(image)});
  }
  return table.ToString();
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  const ControlClient client(arguments.Word(0));
  ASSIGN_OR_RETURN(const Json status, client.Status(arguments.Word(1)));
  if (arguments.Has("quiet")) {
    uint64_t dirty_bytes = 0;
    for (const Json& image : status["images"]) {
      dirty_bytes += NumberOf(image, "dirty_bytes");
    }
    if (arguments.json()) PrintJson({{"dirty_bytes", dirty_bytes}});
    return dirty_bytes == 0 ? 0 : kExitDirty;
  }
  if (arguments.json()) {
    PrintJson(status);
  } else {
    PrintText(HeaderOf(status) + "\n" + TableOf(status["images"]));
  }
  return 0;
}

}  // namespace

Command StatusCommand() {
  return {.name = "status",
          .usage = "MOUNT [NAME] [--quiet]",
          .help =
              "Shows the state of the cache and of its images, or of one.\n"
              "--quiet says only by the exit code whether there is dirty "
              "data: 0 none, 3 some.",
          .min_words = 1,
          .max_words = 2,
          .flags = {"quiet"},
          .run = Run};
}

}  // namespace pcachefs
