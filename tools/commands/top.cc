#include "tools/commands/top.h"

#include <unistd.h>

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fuse/status_json.h"
#include "meta/size_parser.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"
#include "tools/text_table.h"

namespace pcachefs {
namespace {

// Plain escape sequences: one screen of text, written anew each second, needs
// no library.
constexpr char kHomeAndClear[] = "\033[H\033[J";

std::string Rate(const Json& now, const Json& before, const char* key,
                 double seconds) {
  const uint64_t more = NumberOf(now, key) - NumberOf(before, key);
  return FormatSize(static_cast<uint64_t>(static_cast<double>(more) /
                                          seconds));
}

std::string HitRatio(const Json& now, const Json& before) {
  const auto more = [&](const char* key) {
    return NumberOf(now, key) - NumberOf(before, key);
  };
  const uint64_t hits = more("read_hits");
  const uint64_t reads =
      hits + more("read_partial_hits") + more("read_misses");
  if (reads == 0) return "-";
  return absl::StrFormat("%.0f%%", 100.0 * static_cast<double>(hits) /
                                       static_cast<double>(reads));
}

// How much of the image's share is in use, ten letters wide.
std::string Bar(uint64_t used, uint64_t share) {
  const uint64_t full = share == 0 ? 0 : (10 * used + share - 1) / share;
  return absl::StrCat("[", std::string(full, '#'),
                      std::string(10 - (full < 10 ? full : 10), '.'), "]");
}

std::string Screen(const Json& now, const Json& before, double seconds) {
  std::map<std::string, Json> last;
  for (const Json& image : before["images"]) {
    last[TextOf(image, "name")] = image;
  }
  TextTable table({"IMAGE", ">READ/s", ">WRITE/s", ">HITS", ">DIRTY",
                   ">BACK/s", "SHARE", "STATE"});
  for (const Json& image : now["images"]) {
    const auto found = last.find(TextOf(image, "name"));
    const Json& old = found == last.end() ? image : found->second;
    table.AddRow({TextOf(image, "name"),
                  Rate(image, old, "read_bytes", seconds),
                  Rate(image, old, "write_bytes", seconds),
                  HitRatio(image, old), SizeOf(image, "dirty_bytes"),
                  Rate(image, old, "writeback_bytes", seconds),
                  Bar(NumberOf(image, "cache_used_segs"),
                      NumberOf(image, "cache_segs")),
                  TextOf(image, "state")});
  }
  const Json& cache = now["cache"];
  return absl::StrCat(TextOf(cache, "path"), "  ", TextOf(cache, "state"),
                      "  segments ", TextOf(cache, "segments_used"), "/",
                      TextOf(cache, "segments"), "  over ",
                      TextOf(now, "transport"), "\n\n", table.ToString());
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  uint64_t count = 0;  // without end
  if (arguments.Has("count") &&
      (!absl::SimpleAtoi(arguments.Flag("count"), &count) || count == 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--count: got '", arguments.Flag("count"), "', want a number"));
  }
  const ControlClient client(arguments.Word(0));
  const bool is_terminal = isatty(STDOUT_FILENO) != 0;
  ASSIGN_OR_RETURN(Json before, client.Status(""));
  absl::Time taken = absl::Now();
  for (uint64_t i = 0; count == 0 || i < count; ++i) {
    absl::SleepFor(absl::Seconds(1));
    ASSIGN_OR_RETURN(Json now, client.Status(""));
    const double seconds = absl::ToDoubleSeconds(absl::Now() - taken);
    taken = absl::Now();
    if (arguments.json()) {
      PrintJson(now);
    } else {
      PrintText(absl::StrCat(is_terminal ? kHomeAndClear : "",
                             Screen(now, before, seconds)));
    }
    before = std::move(now);
  }
  return 0;
}

}  // namespace

Command TopCommand() {
  return {.name = "top",
          .usage = "MOUNT [--count=N]",
          .help =
              "Shows every second what the images do: bytes read, written and "
              "written back per\nsecond, hits, dirty data, the used part of "
              "the share. Ends when interrupted, or\nafter N screens.",
          .min_words = 1,
          .max_words = 1,
          .flags = {"count"},
          .run = Run};
}

}  // namespace pcachefs
