// What the users of a simulated machine do: random machines and random
// requests.

#ifndef PCACHEFS_TEST_SIM_LOAD_H_
#define PCACHEFS_TEST_SIM_LOAD_H_

#include <cstdint>
#include <vector>

#include "meta/records.h"
#include "test/fakes/random.h"
#include "test/sim/machine.h"
#include "test/sim/simulation_counts.h"
#include "test/testing/random_ops.h"

namespace pcachefs {

template <typename T, size_t kCount>
T OneOf(Random& random, const T (&choices)[kCount]) {
  return choices[random.Below(kCount)];
}

CacheMode RandomMode(Random& random);
WritebackOrder RandomOrder(Random& random);
Machine::Options RandomMachine(Random& random);

// Requests to all images that are served. Not thread-safe.
class Load {
 public:
  Load(Machine& machine, Random& random, SimulationCounts& counts);

  // Begins one request.
  void Next();
  // Fills the log's segment nearly up, with small discards, so that it goes on
  // in another one soon.
  void FillLog();

 private:
  Machine& machine_;
  Random& random_;
  SimulationCounts& counts_;
  std::vector<RandomOps> ops_;  // by image
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_SIM_LOAD_H_
