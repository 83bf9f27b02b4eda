// Interrupts every management operation at each of its I/Os: power goes off,
// the daemon dies, or the call fails, at the i-th one for i = 0, 1, 2, ...
// until none is left. After each, the machine starts again, the checker and the
// oracle judge what is there, and it must go on working and survive another
// cut.
//
// Two images, one of them the operation's; the other one must not notice.

#ifndef PCACHEFS_TEST_SIM_OPERATIONS_SWEEP_H_
#define PCACHEFS_TEST_SIM_OPERATIONS_SWEEP_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "test/sim/machine.h"

namespace pcachefs {

struct ManagedOperation {
  const char* name;
  // What comes before it, uninterrupted; nullptr: nothing. The machine is on,
  // both images are served, the first one is dirty.
  void (*prepare)(Machine& machine);
  // Errors are answers to the administrator.
  absl::Status (*run)(Machine& machine);
  bool on_memory = false;
};
std::span<const ManagedOperation> ManagedOperations();

struct SweepResult {
  absl::Status status;   // the first violation, with where it was interrupted
  uint64_t states = 0;   // interruptions tried
  uint64_t changes = 0;  // changes of the cache device in the operation
};
struct OperationSweepOptions {
  uint64_t stride = 1;     // every so manieth I/O only
  uint64_t survivors = 3;  // choices of what survives a power cut
  bool only_power_cuts = false;
};
SweepResult SweepOperation(const ManagedOperation& operation,
                           const OperationSweepOptions& options);

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_SIM_OPERATIONS_SWEEP_H_
