// Pictures of what the cache holds of an image: for a terminal, and as SVG.

#ifndef PCACHEFS_TOOLS_MAP_PICTURE_H_
#define PCACHEFS_TOOLS_MAP_PICTURE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace pcachefs {

struct PictureCell {
  uint64_t size = 0;  // bytes of the image
  uint64_t cached = 0;
  uint64_t dirty = 0;
  uint64_t hot = 0;
  uint64_t zero = 0;
  uint64_t lost = 0;
};

// '.' nothing cached, '-' some, '+' half or more, '#' all of it; 'd' some of it
// dirty, 'D' half or more; '*' half or more hot; '0' known zeroes, '!' lost. `width` cells per line,
// each line with where it begins; the key below.
std::string DrawForTerminal(const std::vector<PictureCell>& cells,
                            size_t width);

// One square per cell with its numbers as a tooltip.
std::string DrawSvg(const std::string& title,
                    const std::vector<PictureCell>& cells, size_t width);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_MAP_PICTURE_H_
