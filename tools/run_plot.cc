#include "tools/run_plot.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace pcachefs {
namespace {

constexpr double kLeft = 70;
constexpr double kWidth = 720;
constexpr double kHeight = 200;
constexpr double kRatioTop = 40;
constexpr double kLatencyTop = 300;
// Latencies are drawn from 1 us to 10 s, a tenth of the height per half decade.
constexpr double kDecades = 7;
constexpr std::array<const char*, kPlottedLatencies.size()> kColours = {
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd"};

// Values by time; gaps where there is none.
using Series = std::vector<std::optional<double>>;

Series HitRatios(const std::vector<RunSample>& samples) {
  Series ratios;
  for (size_t i = 1; i < samples.size(); ++i) {
    const RunSample& from = samples[i - 1];
    const RunSample& to = samples[i];
    if (to.reads <= from.reads || to.hits < from.hits) {
      ratios.push_back(std::nullopt);
    } else {
      ratios.push_back(static_cast<double>(to.hits - from.hits) /
                       static_cast<double>(to.reads - from.reads));
    }
  }
  return ratios;
}

// Means, as parts of the height of the diagram.
Series Latencies(const std::vector<RunSample>& samples, size_t which) {
  Series heights;
  for (size_t i = 1; i < samples.size(); ++i) {
    const RunSample::Latency& from = samples[i - 1].latencies[which];
    const RunSample::Latency& to = samples[i].latencies[which];
    if (to.count <= from.count || to.sum_seconds < from.sum_seconds) {
      heights.push_back(std::nullopt);
      continue;
    }
    const double mean = (to.sum_seconds - from.sum_seconds) /
                        static_cast<double>(to.count - from.count);
    const double decades = std::log10(std::max(mean, 1e-6)) + 6;
    heights.push_back(std::clamp(decades / kDecades, 0.0, 1.0));
  }
  return heights;
}

class Picture {
 public:
  explicit Picture(const std::vector<RunSample>& samples)
      : samples_(samples),
        begin_(samples.front().time),
        length_(std::max(samples.back().time - begin_, 1e-9)) {}

  void Text(double x, double y, const char* colour, absl::string_view text) {
    absl::StrAppendFormat(&svg_,
                          "<text x=\"%.0f\" y=\"%.0f\" fill=\"%s\">%s</text>\n",
                          x, y, colour, text);
  }

  void Frame(double top, absl::string_view title) {
    Text(kLeft, top - 8, "#000000", title);
    absl::StrAppendFormat(
        &svg_,
        "<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" "
        "fill=\"none\" stroke=\"#888888\"/>\n",
        kLeft, top, kWidth, kHeight);
    for (int i = 0; i <= 4; ++i) {
      Text(kLeft + kWidth * i / 4 - 10, top + kHeight + 16, "#444444",
           absl::StrFormat("%.0f s", length_ * i / 4));
    }
  }

  void Mark(double top, double height, absl::string_view label) {
    const double y = top + kHeight * (1 - height);
    Text(8, y + 4, "#444444", label);
    absl::StrAppendFormat(&svg_,
                          "<line x1=\"%.0f\" y1=\"%.1f\" x2=\"%.0f\" "
                          "y2=\"%.1f\" stroke=\"#dddddd\"/>\n",
                          kLeft, y, kLeft + kWidth, y);
  }

  void Line(double top, const Series& heights, const char* colour) {
    std::string points;
    const auto end_stretch = [&] {
      if (points.empty()) return;
      absl::StrAppend(&svg_, "<polyline fill=\"none\" stroke=\"", colour,
                      "\" stroke-width=\"1.5\" points=\"", points, "\"/>\n");
      points.clear();
    };
    for (size_t i = 0; i < heights.size(); ++i) {
      if (!heights[i]) {
        end_stretch();
        continue;
      }
      const double x =
          kLeft + kWidth * (samples_[i + 1].time - begin_) / length_;
      absl::StrAppendFormat(&points, "%.1f,%.1f ", x,
                            top + kHeight * (1 - *heights[i]));
    }
    end_stretch();
  }

  std::string Finish() const {
    return absl::StrFormat(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" "
        "height=\"%.0f\" font-family=\"sans-serif\" font-size=\"12\">\n"
        "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n%s</svg>\n",
        kLeft + kWidth + 20, kLatencyTop + kHeight + 30, svg_);
  }

 private:
  const std::vector<RunSample>& samples_;
  const double begin_;
  const double length_;
  std::string svg_;
};

}  // namespace

std::string DrawRun(absl::string_view title,
                    const std::vector<RunSample>& samples) {
  Picture picture(samples);
  picture.Frame(kRatioTop,
                absl::StrCat(absl::StrReplaceAll(title, {{"&", "&amp;"},
                                                         {"<", "&lt;"},
                                                         {">", "&gt;"}}),
                             ": hit ratio of reads"));
  for (int percent : {0, 25, 50, 75, 100}) {
    picture.Mark(kRatioTop, percent / 100.0, absl::StrCat(percent, " %"));
  }
  picture.Line(kRatioTop, HitRatios(samples), kColours[0]);

  picture.Frame(kLatencyTop, "mean latency");
  const char* const kLabels[] = {"1 us",   "10 us", "100 us", "1 ms",
                                 "10 ms", "100 ms", "1 s",    "10 s"};
  for (int i = 0; i <= static_cast<int>(kDecades); ++i) {
    picture.Mark(kLatencyTop, i / kDecades, kLabels[i]);
  }
  for (size_t i = 0; i < kPlottedLatencies.size(); ++i) {
    picture.Line(kLatencyTop, Latencies(samples, i), kColours[i]);
    picture.Text(kLeft + 120 + 90.0 * static_cast<double>(i), kLatencyTop - 8,
                 kColours[i],
                 absl::StrReplaceAll(kPlottedLatencies[i], {{"_", " "}}));
  }
  return picture.Finish();
}

}  // namespace pcachefs
