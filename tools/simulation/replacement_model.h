// What a cache of so many blocks would do if it cost nothing to run: the
// yardsticks for pcachefs. A written block is in the cache like a read one.

#ifndef PCACHEFS_TOOLS_SIMULATION_REPLACEMENT_MODEL_H_
#define PCACHEFS_TOOLS_SIMULATION_REPLACEMENT_MODEL_H_

#include <cstdint>
#include <list>

#include "absl/container/flat_hash_map.h"
#include "tools/simulation/trace.h"

namespace pcachefs {

enum class Replacement {
  kLru,   // the block that was used longest ago goes
  kFifo,  // the block that came first goes
};

// Not thread-safe.
class ReplacementModel {
 public:
  // `capacity` in blocks.
  ReplacementModel(Replacement replacement, uint64_t capacity)
      : replacement_(replacement), capacity_(capacity) {}

  // True if the block was there; it is there afterwards.
  bool Access(uint64_t block);

 private:
  const Replacement replacement_;
  const uint64_t capacity_;
  std::list<uint64_t> blocks_;  // the next to go comes last
  absl::flat_hash_map<uint64_t, std::list<uint64_t>::iterator> where_;
};

// Part of the blocks of 4 KiB read that were there, 0 if none was read.
double HitRatio(Replacement replacement, uint64_t cache_bytes,
                const Trace& trace);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SIMULATION_REPLACEMENT_MODEL_H_
