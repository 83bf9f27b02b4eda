// Proves that the plot of a run says what its samples do.

#include "tools/run_plot.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

RunSample At(double time, uint64_t hits, uint64_t reads) {
  return {.time = time, .hits = hits, .reads = reads};
}

size_t Count(const std::string& text, const std::string& what) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at) {
    ++count;
  }
  return count;
}

TEST(RunPlot, RatiosAreOfTheTimeBetweenSamples) {
  const std::string svg =
      DrawRun("vm1", {At(100, 0, 0), At(101, 10, 10), At(104, 10, 20)});
  EXPECT_THAT(svg, StartsWith("<svg "));
  // All hits after a quarter of the time, none at its end.
  EXPECT_THAT(svg, HasSubstr("points=\"250.0,40.0 790.0,240.0 \""));
  EXPECT_THAT(svg, HasSubstr(">4 s<"));
}

TEST(RunPlot, LatenciesAreMeansOnALogarithmicScale) {
  std::vector<RunSample> samples = {At(0, 0, 0), At(1, 0, 0)};
  samples[1].latencies[2] = {.count = 10, .sum_seconds = 10 * 1e-6};
  EXPECT_THAT(DrawRun("vm1", samples), HasSubstr("points=\"790.0,500.0 \""));
  samples[1].latencies[2] = {.count = 1, .sum_seconds = 10};
  EXPECT_THAT(DrawRun("vm1", samples), HasSubstr("points=\"790.0,300.0 \""));
}

TEST(RunPlot, GapsAreNotDrawn) {
  // Nothing was read; then the daemon was started anew.
  const std::string svg =
      DrawRun("vm1", {At(0, 0, 0), At(1, 5, 10), At(2, 5, 10), At(3, 8, 20),
                      At(4, 0, 0), At(5, 1, 2)});
  EXPECT_EQ(Count(svg, "<polyline"), 3u);
}

TEST(RunPlot, NamesAreNoMarkup) {
  const std::string svg = DrawRun("<a&b>", {At(0, 0, 0), At(0, 1, 1)});
  EXPECT_THAT(svg, HasSubstr("&lt;a&amp;b&gt;"));
  EXPECT_THAT(svg, Not(HasSubstr("<a&b>")));
}

}  // namespace
}  // namespace pcachefs
