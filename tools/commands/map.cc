#include "tools/commands/map.h"

#include <cerrno>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"
#include "tools/map_picture.h"

namespace pcachefs {
namespace {

constexpr size_t kTerminalWidth = 64;
constexpr size_t kTerminalLines = 16;
constexpr size_t kSvgWidth = 128;
constexpr size_t kSvgLines = 64;

std::vector<PictureCell> CellsOf(const Json& answer) {
  const uint64_t cell_size = NumberOf(answer, "cell_size");
  uint64_t left = NumberOf(answer, "size");
  std::vector<PictureCell> cells;
  for (const Json& cell : answer["cells"]) {
    const uint64_t size = left < cell_size ? left : cell_size;
    left -= size;
    cells.push_back({.size = size,
                     .cached = NumberOf(cell, "cached"),
                     .dirty = NumberOf(cell, "dirty"),
                     .hot = NumberOf(cell, "hot"),
                     .zero = NumberOf(cell, "zero"),
                     .lost = NumberOf(cell, "lost")});
  }
  return cells;
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  errno = 0;
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream << text;
  stream.close();
  if (stream.good()) return absl::OkStatus();
  return absl::ErrnoToStatus(errno != 0 ? errno : EIO,
                             absl::StrCat("--output ", path));
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  const std::string output = arguments.Flag("output");
  if (!output.empty() && !absl::EndsWith(output, ".svg")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--output: got '", output, "', want a name in .svg"));
  }
  const size_t count = output.empty() ? kTerminalWidth * kTerminalLines
                                      : kSvgWidth * kSvgLines;
  ASSIGN_OR_RETURN(const Json answer, ControlClient(arguments.Word(0))
                                          .Call({{"verb", "map"},
                                                 {"name", arguments.Word(1)},
                                                 {"cells", count}}));
  if (!output.empty()) {
    RETURN_IF_ERROR(WriteFile(
        output, DrawSvg(arguments.Word(1), CellsOf(answer), kSvgWidth)));
  }
  if (arguments.json()) {
    PrintJson(answer);
  } else if (output.empty()) {
    PrintText(DrawForTerminal(CellsOf(answer), kTerminalWidth));
  }
  return 0;
}

}  // namespace

Command MapCommand() {
  return {.name = "map",
          .usage = "MOUNT NAME [--output=FILE.svg]",
          .help =
              "Draws which parts of an image are cached, dirty and hot (read since they "
              "came), on the "
              "terminal or as SVG.",
          .min_words = 2,
          .max_words = 2,
          .flags = {"output"},
          .run = Run};
}

}  // namespace pcachefs
