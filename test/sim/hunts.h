// Ways to look for a mistake in the core, in rounds, from the cheapest on.
//
//   lives     random lives (test/sim/simulator.h); a round is a life
//   cuts      power cuts in the script; a round is every 32nd cut, from another
//             one on (test/sim/power_cut_sweep.h)
//   memory    the same on a cache device that is memory
//   modes     the same in the script of changes of mode and order
//   roll      the same where the log goes on in another segment
//   full      more than the cache and the log hold is written; one round
//   persists  the i-th persist of the script fails; a round is one i
//   NAME      the trap of that name (test/sim/traps.h); or
//   NAME      the management operation of that name, interrupted at each of its
//             I/Os (test/sim/operations_sweep.h); one round

#ifndef PCACHEFS_TEST_SIM_HUNTS_H_
#define PCACHEFS_TEST_SIM_HUNTS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace pcachefs {

struct Catch {
  absl::Status status;  // OK: nothing found
  uint64_t rounds = 0;  // the last one found it
  uint64_t states = 0;  // crashes and power cuts tried
};

// At most `rounds`; 0: as many as the hunt is good for.
Catch Hunt(const std::string& hunt, uint64_t rounds);

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_SIM_HUNTS_H_
