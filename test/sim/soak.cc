// Simulates lives of a cache until time is up or one of them fails:
//
//   bazel run -c opt //test/sim:soak -- --seconds=3600
//   bazel run //test/sim:soak -- --seed=17       (one life)

#include <cstdint>
#include <iostream>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gflags/gflags.h"
#include "glog/logging.h"
#include "test/sim/simulator.h"

DEFINE_uint64(seconds, 0, "how long; 0: a single life");
DEFINE_uint64(seed, 1, "the first life");
DEFINE_bool(keep_going, false, "report each failure and go on");

int main(int argc, char** argv) {
  FLAGS_minloglevel = google::GLOG_FATAL;  // crashes are the daily bread here
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  pcachefs::SimulationCounts counts;
  uint64_t failures = 0;
  const absl::Time begin = absl::Now();
  const absl::Time end = begin + absl::Seconds(FLAGS_seconds);
  for (uint64_t seed = FLAGS_seed; seed == FLAGS_seed || absl::Now() < end;
       ++seed) {
    const absl::Status status = pcachefs::Simulate(seed, counts);
    if (status.ok()) continue;
    ++failures;
    std::cout << status.ToString() << std::endl;
    if (!FLAGS_keep_going) break;
  }
  const absl::Duration took = absl::Now() - begin;
  std::cout << counts.ToString() << "\nin " << absl::FormatDuration(took)
            << ", " << counts.operations() / absl::ToDoubleSeconds(took)
            << " operations a second; failures: " << failures << "\n";
  return failures == 0 ? 0 : 1;
}
