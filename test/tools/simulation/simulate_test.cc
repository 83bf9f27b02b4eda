// The policy of the real core, judged by the traces that docs/reclaim.md shows.

#include "tools/simulation/simulate.h"

#include <cstdint>

#include "absl/status/status.h"
#include "core/status.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/testing/status_matchers.h"
#include "tools/simulation/replacement_model.h"
#include "tools/simulation/trace.h"
#include "tools/simulation/trace_generator.h"

namespace pcachefs {
namespace {

constexpr uint64_t kCache = 64 * kMiB;

Trace ZipfScan() {
  return *GenerateTrace("zipf_scan",
                        {.requests = 60'000, .hot_bytes = 192 * kMiB});
}

TEST(Simulate, BeatsFifoAndLruOnZipfWithScans) {
  const Trace trace = ZipfScan();

  const auto counters = Simulate(
      {.cache_bytes = kCache, .gc_percent = 90, .sequential_cutoff = kMiB},
      trace);

  ASSERT_THAT(counters, IsOk());
  EXPECT_GT(HitRatio(*counters),
            HitRatio(Replacement::kFifo, kCache, trace) + 0.02);
  EXPECT_GT(HitRatio(*counters), HitRatio(Replacement::kLru, kCache, trace));
  EXPECT_GT(counters->bypass_bytes, 0u);
  EXPECT_LT(counters->write_amplification(), 2);
}

TEST(Simulate, SecondLifeAloneBeatsFifo) {
  const Trace trace = ZipfScan();

  const auto counters =
      Simulate({.cache_bytes = kCache, .gc_percent = 90}, trace);

  ASSERT_THAT(counters, IsOk());
  EXPECT_GT(counters->second_lives, 0u);
  EXPECT_GT(HitRatio(*counters), HitRatio(Replacement::kFifo, kCache, trace));
}

TEST(Simulate, ReadAheadTurnsMissesOfScansIntoHits) {
  Trace trace;
  for (uint64_t at = 0; at < 16 * kMiB; at += 64 * kKiB) {
    trace.push_back({.offset = at, .length = 64 * kKiB});
  }

  const auto without = Simulate({.cache_bytes = kCache}, trace);
  const auto with =
      Simulate({.cache_bytes = kCache, .read_ahead = 2 * kMiB}, trace);

  ASSERT_THAT(without, IsOk());
  ASSERT_THAT(with, IsOk());
  EXPECT_EQ(HitRatio(*without), 0);
  EXPECT_GT(HitRatio(*with), 0.9);
  EXPECT_EQ(with->read_ahead_used_bytes, with->read_ahead_bytes);
}

TEST(Simulate, RefusesACacheTooSmall) {
  EXPECT_FALSE(Simulate({.cache_bytes = kMiB}, {{.length = 512}}).ok());
}

}  // namespace
}  // namespace pcachefs
