// Runs a trace through the real core: its log, its reclaim, its reads.

#ifndef PCACHEFS_TOOLS_SIMULATION_SIMULATE_H_
#define PCACHEFS_TOOLS_SIMULATION_SIMULATE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "core/status.h"
#include "tools/simulation/trace.h"

namespace pcachefs {

struct SimulationOptions {
  uint64_t cache_bytes = 0;  // size of the cache device, its records included
  int gc_percent = -1;       // -1: as for new images
  uint64_t sequential_cutoff = 0;  // bytes, 0 = off
  uint64_t read_ahead = 0;         // largest window, bytes; 0 = off
};

// The image's counters at the end. InvalidArgument or ResourceExhausted if no
// cache of that size can be.
absl::StatusOr<ImageStatus::Counters> Simulate(const SimulationOptions& options,
                                               const Trace& trace);

// Part of the bytes read that came from the cache, 0 if none was read.
double HitRatio(const ImageStatus::Counters& counters);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SIMULATION_SIMULATE_H_
