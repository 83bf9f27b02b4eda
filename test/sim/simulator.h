// One simulated life of a cache: a random machine with several images, random
// requests in flight at once, completions in random order, administrators at
// work, devices that fail, crashes, power cuts and clean stops at random
// instants, all drawn from one seed.
//
//   machine.h        the machine, and how it starts and ends
//   load.h           random machines, and what their users ask for
//   administration.h attach, detach, shares, growth, modes, settings
//   disturbances.h   what breaks
//   reference_image.h, testing/judged_image.h: what is right
//
// Judged throughout: every answer, the images after every start, the backing
// devices at random instants and, drained, at the end.

#ifndef PCACHEFS_TEST_SIM_SIMULATOR_H_
#define PCACHEFS_TEST_SIM_SIMULATOR_H_

#include <cstdint>

#include "absl/status/status.h"
#include "test/sim/simulation_counts.h"

namespace pcachefs {

// OK, or the first violation, with the command that repeats it. Adds to
// `counts`.
absl::Status Simulate(uint64_t seed, SimulationCounts& counts);

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_SIM_SIMULATOR_H_
