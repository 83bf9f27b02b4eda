// A random number generator whose sequence is the same everywhere, so that a
// seed printed by a failing run repeats it on any machine.

#ifndef PCACHEFS_TEST_FAKES_RANDOM_H_
#define PCACHEFS_TEST_FAKES_RANDOM_H_

#include <cstdint>

namespace pcachefs {

// SplitMix64. Not thread-safe.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    state_ += 0x9e3779b97f4a7c15u;
    uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
  }

  // 0..bound-1. Requires: bound > 0.
  uint64_t Below(uint64_t bound) { return Next() % bound; }

  // first..last, both included.
  uint64_t Between(uint64_t first, uint64_t last) {
    return first + Below(last - first + 1);
  }

  bool Percent(uint64_t percent) { return Below(100) < percent; }

  // A generator for another purpose, so that drawing more numbers here does
  // not change what happens there.
  Random Split() { return Random(Next()); }

 private:
  uint64_t state_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_FAKES_RANDOM_H_
