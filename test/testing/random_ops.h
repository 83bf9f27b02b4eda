// Random requests to an image, in the proportions that find mistakes: small
// ranges on a few hot places, so that they overlap, some long ones, all
// alignments, and a flush every now and then.

#ifndef PCACHEFS_TEST_TESTING_RANDOM_OPS_H_
#define PCACHEFS_TEST_TESTING_RANDOM_OPS_H_

#include <cstdint>

#include "meta/types.h"
#include "meta/units.h"
#include "test/fakes/random.h"

namespace pcachefs {

struct RandomOp {
  enum class Kind { kRead, kWrite, kZero, kDiscard, kFlush };
  Kind kind = Kind::kRead;
  ImageRange range;
};

// Not thread-safe.
class RandomOps {
 public:
  struct Options {
    uint64_t image_size = 0;  // bytes
    // Weights of the kinds.
    uint64_t reads = 30;
    uint64_t writes = 50;
    uint64_t zeroes = 4;
    uint64_t discards = 6;
    uint64_t flushes = 10;
    // Percent of ranges that are aligned to blocks, and to sectors; the rest
    // begins and ends anywhere.
    uint64_t block_aligned = 50;
    uint64_t sector_aligned = 35;
    uint64_t length_max = 64 * kKiB;
    uint64_t hot_percent = 50;
    uint64_t hot_length = 64 * kKiB;  // each of a few places
  };

  RandomOps(const Options& options, Random random)
      : options_(options), random_(random) {}

  RandomOp Next();

 private:
  ImageRange NextRange();

  const Options options_;
  Random random_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_TESTING_RANDOM_OPS_H_
