#include "test/testing/random_ops.h"

#include <algorithm>

namespace pcachefs {

RandomOp RandomOps::Next() {
  using Kind = RandomOp::Kind;
  const uint64_t weights[] = {options_.reads, options_.writes, options_.zeroes,
                              options_.discards, options_.flushes};
  uint64_t total = 0;
  for (uint64_t weight : weights) total += weight;
  uint64_t drawn = random_.Below(total);
  int kind = 0;
  while (drawn >= weights[kind]) drawn -= weights[kind++];

  RandomOp op;
  op.kind = static_cast<Kind>(kind);
  if (op.kind != Kind::kFlush) op.range = NextRange();
  return op;
}

ImageRange RandomOps::NextRange() {
  const uint64_t size = options_.image_size;
  const uint64_t percent = random_.Below(100);
  uint64_t alignment = 1;
  if (percent < options_.block_aligned) {
    alignment = kBlockSize;
  } else if (percent < options_.block_aligned + options_.sector_aligned) {
    alignment = kSectorSize;
  }
  // Lengths of all orders of magnitude up to the longest.
  uint64_t longest = options_.length_max;
  longest = std::max<uint64_t>(longest >> random_.Below(8), alignment);
  uint64_t length = random_.Between(1, longest);

  uint64_t offset = random_.Below(size);
  if (random_.Percent(options_.hot_percent)) {
    // Three places: the beginning, the middle, and the end.
    const uint64_t hot = std::min(options_.hot_length, size);
    offset = (size - hot) / 2 * random_.Below(3) + random_.Below(hot);
  }
  offset = std::min(RoundDown(offset, alignment), size - alignment);
  length = std::min(RoundUp(length, alignment), size - offset);
  return {ImageOffset(offset), length};
}

}  // namespace pcachefs
