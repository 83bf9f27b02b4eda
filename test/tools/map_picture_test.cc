#include "tools/map_picture.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::vector<PictureCell> EveryKind() {
  return {{.size = 100},
          {.size = 100, .cached = 10},
          {.size = 100, .cached = 50},
          {.size = 100, .cached = 100},
          {.size = 100, .cached = 100, .dirty = 1},
          {.size = 100, .cached = 100, .dirty = 50},
          {.size = 100, .cached = 60, .hot = 50},
          {.size = 100, .zero = 1},
          {.size = 100, .cached = 9, .lost = 1}};
}

TEST(MapPicture, ALetterPerCell) {
  const std::string text = DrawForTerminal(EveryKind(), 7);
  EXPECT_THAT(text, HasSubstr("  .-+#dD*\n"));
  EXPECT_THAT(text, HasSubstr("  0!\n"));
}

TEST(MapPicture, SvgHasASquarePerCellAndNoMarkupOfNames) {
  const std::string svg = DrawSvg("<vm&1>", EveryKind(), 4);
  EXPECT_THAT(svg, StartsWith("<svg "));
  EXPECT_THAT(svg, HasSubstr("&lt;vm&amp;1&gt;"));
  EXPECT_THAT(svg, Not(HasSubstr("<vm&1>")));
  size_t squares = 0;
  for (size_t at = 0; (at = svg.find("<rect", at)) != std::string::npos; ++at) {
    ++squares;
  }
  EXPECT_EQ(squares, 9u);
}

TEST(MapPicture, NothingIsFine) {
  EXPECT_THAT(DrawForTerminal({}, 8), HasSubstr("not cached"));
  EXPECT_THAT(DrawSvg("x", {}, 8), HasSubstr("</svg>"));
}

}  // namespace
}  // namespace pcachefs
