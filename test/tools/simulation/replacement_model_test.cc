// The yardsticks are what their names say.

#include "tools/simulation/replacement_model.h"

#include "gtest/gtest.h"
#include "tools/simulation/trace.h"

namespace pcachefs {
namespace {

TEST(ReplacementModel, LruKeepsWhatWasUsedLast) {
  ReplacementModel lru(Replacement::kLru, 2);
  EXPECT_FALSE(lru.Access(1));
  EXPECT_FALSE(lru.Access(2));
  EXPECT_TRUE(lru.Access(1));
  EXPECT_FALSE(lru.Access(3));  // 2 goes
  EXPECT_TRUE(lru.Access(1));
  EXPECT_FALSE(lru.Access(2));
}

TEST(ReplacementModel, FifoDropsWhatCameFirst) {
  ReplacementModel fifo(Replacement::kFifo, 2);
  EXPECT_FALSE(fifo.Access(1));
  EXPECT_FALSE(fifo.Access(2));
  EXPECT_TRUE(fifo.Access(1));
  EXPECT_FALSE(fifo.Access(3));  // 1 goes, though used
  EXPECT_TRUE(fifo.Access(2));
  EXPECT_FALSE(fifo.Access(1));
}

TEST(ReplacementModel, RatioCountsBlocksRead) {
  const Trace trace = {
      {.offset = 0, .length = 8192, .is_write = true},
      {.offset = 100, .length = 4096},  // both blocks
      {.offset = 8192, .length = 8192},
  };
  EXPECT_EQ(HitRatio(Replacement::kLru, 1 << 20, trace), 0.5);
  EXPECT_EQ(HitRatio(Replacement::kFifo, 0, trace), 0);
}

}  // namespace
}  // namespace pcachefs
