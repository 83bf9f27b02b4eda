// What fate does to a simulated machine short of ending it: devices that fail,
// hang, are full, or forget bits.

#ifndef PCACHEFS_TEST_SIM_DISTURBANCES_H_
#define PCACHEFS_TEST_SIM_DISTURBANCES_H_

#include "absl/status/status.h"
#include "test/fakes/random.h"
#include "test/sim/machine.h"
#include "test/sim/simulation_counts.h"

namespace pcachefs {

// Not thread-safe.
class Disturbances {
 public:
  // Draws what this machine will suffer from.
  Disturbances(Machine& machine, Random& random, SimulationCounts& counts);

  // Perhaps one of them.
  absl::Status Perhaps();
  // Ends all that goes on.
  void Calm();
  // Flips a bit of the cache's own records in a copy of the machine as a crash
  // leaves it. The copy serves only what is right, or says what is damaged.
  absl::Status RotRecords();
  bool cache_fails() const { return cache_fails_ || cache_fills_; }

 private:
  void BreakDisk(FakeDisk& disk);
  void BreakCacheDevice();
  // Of a used block of payload, in an idle machine.
  absl::Status RotPayload(bool dirty);

  Machine& machine_;
  Random& random_;
  SimulationCounts& counts_;
  const bool disks_fail_;
  const bool cache_fails_;
  const bool cache_fills_;  // now and then it is full
  const bool payload_rots_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_SIM_DISTURBANCES_H_
