// Plots of a recorded run: hit ratio and latencies over time, as SVG.

#ifndef PCACHEFS_TOOLS_RUN_PLOT_H_
#define PCACHEFS_TOOLS_RUN_PLOT_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace pcachefs {

// The latencies that are plotted, by their name in the status.
inline constexpr std::array<absl::string_view, 4> kPlottedLatencies = {
    "read_hit", "read_miss", "write", "flush"};

// Counters since the start of the daemon, at one instant.
struct RunSample {
  double time = 0;     // seconds, of any clock
  uint64_t hits = 0;   // reads
  uint64_t reads = 0;  // all
  struct Latency {
    uint64_t count = 0;
    double sum_seconds = 0;
  };
  std::array<Latency, kPlottedLatencies.size()> latencies;
};

// Each point tells of the time since the sample before it. Stretches without
// reads, or with a daemon that was started anew, have no points. Requires two
// samples.
std::string DrawRun(absl::string_view title,
                    const std::vector<RunSample>& samples);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_RUN_PLOT_H_
