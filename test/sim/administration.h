// What the administrators of a simulated machine do: images come, go, grow and
// change. Power may go off in the middle of it.

#ifndef PCACHEFS_TEST_SIM_ADMINISTRATION_H_
#define PCACHEFS_TEST_SIM_ADMINISTRATION_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "test/fakes/random.h"
#include "test/sim/machine.h"
#include "test/sim/simulation_counts.h"

namespace pcachefs {

// Not thread-safe.
class Administration {
 public:
  // Draws how busy they are.
  Administration(Machine& machine, Random& random, SimulationCounts& counts);

  // Perhaps one operation. Its refusal is no error, a violation is.
  absl::Status Perhaps();

 private:
  void Switch(JudgedImage& image);
  void ChangeSettings(JudgedImage& image);
  void Manage(size_t i);
  void ManageServed(size_t i);
  void Detach(size_t i);

  Machine& machine_;
  Random& random_;
  SimulationCounts& counts_;
  const uint64_t switch_percent_;  // of steps with a change of mode or order
  const uint64_t manage_percent_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_SIM_ADMINISTRATION_H_
