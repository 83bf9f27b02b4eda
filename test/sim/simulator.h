// One simulated life of a cache: a random machine, random requests in flight at
// once, completions in random order, crashes, power cuts and clean stops at
// random instants, all drawn from one seed.
//
// Judged throughout (test/testing/image_fixture.h): every read, the image after
// every start, the backing device at random instants, and at the end the
// drained backing device.

#ifndef PCACHEFS_TEST_SIM_SIMULATOR_H_
#define PCACHEFS_TEST_SIM_SIMULATOR_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace pcachefs {

struct SimulationCounts {
  uint64_t lives = 0;
  uint64_t requests = 0;
  uint64_t failed_requests = 0;
  uint64_t crashes = 0;
  uint64_t power_cuts = 0;
  uint64_t clean_stops = 0;
  uint64_t switches = 0;
  uint64_t backing_judgements = 0;

  std::string ToString() const;
};

// OK, or the first violation, with the command that repeats it. Adds to
// `counts`.
absl::Status Simulate(uint64_t seed, SimulationCounts& counts);

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_SIM_SIMULATOR_H_
