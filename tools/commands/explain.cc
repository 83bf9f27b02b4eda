#include "tools/commands/explain.h"

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fuse/status_json.h"
#include "meta/size_parser.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"

namespace pcachefs {
namespace {

absl::StatusOr<uint64_t> ParseOffset(const std::string& text) {
  uint64_t offset = 0;
  if (absl::SimpleAtoi(text, &offset)) return offset;  // 0, which no size is
  return ParseSize(text);
}

std::string Describe(const Json& place) {
  const std::string kind = TextOf(place, "kind");
  std::string text = absl::StrCat(
      "range     ", TextOf(place, "range_offset"), " + ",
      TextOf(place, "range_length"), "\nserved    ");
  if (kind == "cached") {
    absl::StrAppend(&text, "from the cache, ",
                    place.value("dirty", false)
                        ? "dirty: not yet on the backing device"
                        : "clean: the backing device has it too",
                    "\nsegment   ", TextOf(place, "segment"), ", generation ",
                    TextOf(place, "generation"), ", at byte ",
                    TextOf(place, "segment_offset"), "\nchecksum  ",
                    TextOf(place, "checksum"), "\nread      ",
                    place.value("hit", false) ? "since it came here"
                                              : "not since it came here",
                    "\n");
    if (place.contains("key_set")) {
      absl::StrAppend(&text, "since     key set ", TextOf(place, "key_set"));
      if (place.contains("age_seconds")) {
        absl::StrAppendFormat(&text, ", %.0f s ago",
                              place["age_seconds"].get<double>());
      }
      absl::StrAppend(&text, "\n");
    }
  } else if (kind == "zero") {
    absl::StrAppend(&text, "as zeroes, by a discard or write-zeroes\n");
  } else if (kind == "lost") {
    absl::StrAppend(&text,
                    "not: the cache device lost it while it was dirty; a "
                    "write of this range makes it whole\n");
  } else {
    absl::StrAppend(&text, "from the backing device: not in the cache\n");
  }
  return text;
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  ASSIGN_OR_RETURN(const uint64_t offset, ParseOffset(arguments.Word(2)));
  ASSIGN_OR_RETURN(const Json answer, ControlClient(arguments.Word(0))
                                          .Call({{"verb", "explain"},
                                                 {"name", arguments.Word(1)},
                                                 {"offset", offset}}));
  if (arguments.json()) {
    PrintJson(answer);
  } else {
    PrintText(Describe(answer));
  }
  return TextOf(answer, "kind") == "lost" ||
                 (TextOf(answer, "kind") == "cached" &&
                  TextOf(answer, "checksum") != "ok")
             ? 1
             : 0;
}

}  // namespace

Command ExplainCommand() {
  return {.name = "explain",
          .usage = "MOUNT NAME OFFSET",
          .help =
              "Tells what the cache holds at a place of an image: cached or "
              "not, dirty or clean,\nin which segment, since when, read "
              "since then or not,\nand whether its checksum is right. OFFSET takes K, M, G, T.\nExit code 1 if it "
              "is damaged or lost.",
          .min_words = 3,
          .max_words = 3,
          .run = Run};
}

}  // namespace pcachefs
