// Runs a bounded number of simulated lives (test/sim/simulator.h). The soak
// binary runs more of them.

#include "test/sim/simulator.h"

#include <cstdint>
#include <iostream>

#include "gflags/gflags.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"

DEFINE_uint64(seed, 1, "the first life");
DEFINE_uint64(lives, 60, "how many");

namespace pcachefs {
namespace {

TEST(Simulator, NothingIsLostAndNothingWrongIsRead) {
  SimulationCounts counts;
  for (uint64_t i = 0; i < FLAGS_lives; ++i) {
    ASSERT_THAT(Simulate(FLAGS_seed + i, counts), IsOk());
  }
  std::cout << counts.ToString() << "\n";
  // Fewer need not have met everything.
  if (FLAGS_lives >= 60) {
    EXPECT_THAT(counts.Missing(), testing::IsEmpty());
  }
}

}  // namespace
}  // namespace pcachefs

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  FLAGS_minloglevel = google::GLOG_FATAL;  // crashes are the daily bread here
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  return RUN_ALL_TESTS();
}
