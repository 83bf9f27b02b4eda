#include "tools/map_picture.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "meta/size_parser.h"

namespace pcachefs {
namespace {

char LetterOf(const PictureCell& cell) {
  if (cell.lost > 0) return '!';
  if (cell.dirty > 0) return 2 * cell.dirty >= cell.size ? 'D' : 'd';
  if (cell.hot > 0 && 2 * cell.hot >= cell.size) return '*';
  if (cell.cached >= cell.size && cell.size > 0) return '#';
  if (cell.cached > 0) return 2 * cell.cached >= cell.size ? '+' : '-';
  return cell.zero > 0 ? '0' : '.';
}

// From pale to full, by how much of the cell it is.
std::string ColourOf(const PictureCell& cell) {
  const auto mix = [&](uint64_t part, int red, int green, int blue) {
    const double share =
        0.25 + 0.75 * static_cast<double>(part) / static_cast<double>(cell.size);
    const auto channel = [&](int full) {
      return static_cast<int>(255 - share * (255 - full));
    };
    return absl::StrFormat("#%02x%02x%02x", channel(red), channel(green),
                           channel(blue));
  };
  if (cell.size == 0) return "#ffffff";
  if (cell.lost > 0) return "#000000";
  if (cell.dirty > 0) return mix(cell.dirty, 0xd6, 0x27, 0x28);
  if (cell.hot > 0) return mix(cell.hot, 0xff, 0x7f, 0x0e);
  if (cell.cached > 0) return mix(cell.cached, 0x1f, 0x77, 0xb4);
  if (cell.zero > 0) return mix(cell.zero, 0x99, 0x99, 0x99);
  return "#f4f4f4";
}

}  // namespace

std::string DrawForTerminal(const std::vector<PictureCell>& cells,
                            size_t width) {
  std::string text;
  uint64_t begin = 0;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (i % width == 0) {
      absl::StrAppend(&text, i == 0 ? "" : "\n",
                      absl::StrFormat("%8s  ", FormatSize(begin)));
    }
    text += LetterOf(cells[i]);
    begin += cells[i].size;
  }
  absl::StrAppend(
      &text, "\n\n. not cached  - some  + half  # all  * half hot  d dirty  "
             "D half dirty  0 zeroes  ! lost\n");
  return text;
}

std::string DrawSvg(const std::string& title,
                    const std::vector<PictureCell>& cells, size_t width) {
  constexpr size_t kSquare = 8;
  constexpr size_t kTop = 24;
  const size_t lines = (cells.size() + width - 1) / width;
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" "
      "height=\"%d\">\n<text x=\"2\" y=\"16\" font-family=\"sans-serif\" "
      "font-size=\"13\">%s (blue: cached, orange: hot, red: dirty, grey: "
      "zeroes, black: lost)</text>\n",
      width * kSquare, kTop + lines * kSquare,
      absl::StrReplaceAll(title,
                          {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}}));
  uint64_t begin = 0;
  for (size_t i = 0; i < cells.size(); ++i) {
    const PictureCell& cell = cells[i];
    absl::StrAppendFormat(
        &svg,
        "<rect x=\"%d\" y=\"%d\" width=\"7\" height=\"7\" "
        "fill=\"%s\"><title>at %s: %s cached, %s hot, %s dirty</title></rect>"
        "\n",
        i % width * kSquare, kTop + i / width * kSquare, ColourOf(cell),
        FormatSize(begin), FormatSize(cell.cached), FormatSize(cell.hot),
        FormatSize(cell.dirty));
    begin += cell.size;
  }
  return svg + "</svg>\n";
}

}  // namespace pcachefs
