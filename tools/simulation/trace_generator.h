// Synthetic traces. The same seed makes the same trace everywhere.

#ifndef PCACHEFS_TOOLS_SIMULATION_TRACE_GENERATOR_H_
#define PCACHEFS_TOOLS_SIMULATION_TRACE_GENERATOR_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tools/simulation/trace.h"

namespace pcachefs {

struct GeneratorOptions {
  uint64_t seed = 1;
  uint64_t requests = 400'000;  // of the random kind; scans come on top
  uint64_t hot_bytes = uint64_t{1} << 30;
};

// "zipf_scan": requests of 16 KiB, a fifth of them writes, to places of
// `hot_bytes` whose popularity is Zipf's (exponent 0.9), and twenty times a
// sequential scan of an eighth of `hot_bytes` elsewhere, each of new data.
// "shifting": the same kind of requests within a working set of a fifth of
// `hot_bytes`, all places alike, which moves on by a quarter of itself
// twenty-four times. InvalidArgument: another name.
absl::StatusOr<Trace> GenerateTrace(absl::string_view name,
                                    const GeneratorOptions& options);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SIMULATION_TRACE_GENERATOR_H_
