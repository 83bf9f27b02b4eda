// Traps: short lives of one image, each leading straight to the instant at
// which one mistake in the core shows that random lives and sweeps over a
// general script meet too rarely. Without the mistake a trap stays open.

#ifndef PCACHEFS_TEST_SIM_TRAPS_H_
#define PCACHEFS_TEST_SIM_TRAPS_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"

namespace pcachefs {

struct Trap {
  const char* name;
  uint64_t rounds;  // after which it has seen what it can
  // The first violation; adds the crashes and power cuts it tried to `states`.
  // A round is a choice of everything that is left to chance.
  absl::Status (*spring)(uint64_t round, uint64_t& states);
};
std::span<const Trap> Traps();

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_SIM_TRAPS_H_
