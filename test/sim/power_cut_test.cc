// Proves the promises about power cuts and crashes of the daemon by trying them
// at every I/O of a fixed script (test/sim/script.h), as
// test/sim/power_cut_sweep.h does it.

#include <cstdint>
#include <iostream>

#include "gflags/gflags.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "test/sim/power_cut_sweep.h"
#include "test/sim/script.h"
#include "test/testing/image_fixture.h"
#include "test/testing/status_matchers.h"

DEFINE_int64(cut, -1, "explore only the cut at this I/O");
DEFINE_uint64(survivors, 3, "choices of what survives, per cut");

namespace pcachefs {
namespace {

PowerCutSweep::Options SweepOptions() {
  return {.survivors = FLAGS_survivors, .only_cut = FLAGS_cut};
}

void Report(const PowerCutSweep& sweep) {
  std::cout << "cut at " << sweep.cuts() << " I/Os and at "
            << sweep.nested_cuts() << " of a start after one; "
            << sweep.states() << " states in all\n";
}

void Sweep(const ImageFixture::Options& options, bool fill_log,
           void (*run)(ImageFixture&) = RunScript) {
  PowerCutSweep sweep(options, SweepOptions());
  // Judging would fill the cache, and leave the script no misses.
  ASSERT_THAT(sweep.machine().Start(/*judge=*/false), IsOk());
  if (fill_log) FillLogSegment(sweep.machine());
  sweep.Arm();

  run(sweep.machine());

  Report(sweep);
  EXPECT_THAT(sweep.status(), IsOk());
  EXPECT_THAT(sweep.machine().status(), IsOk());
  EXPECT_GT(sweep.cuts(), 100);
}

TEST(PowerCut, AnywhereInTheScript) { Sweep(ScriptMachine(), true); }

TEST(PowerCut, AnywhereInTheScriptOnMemory) {
  ImageFixture::Options options = ScriptMachine();
  options.cache.atom_size = 8;
  options.cache.persist_is_cheap = true;
  options.cache.mapped = true;
  Sweep(options, false);
}

TEST(PowerCutOfModes, AnywhereInChangesOfModeAndOrder) {
  Sweep(ScriptMachine(), false, RunModesScript);
}

TEST(PowerCutOfModes, AnywhereInChangesOfModeAndOrderOnMemory) {
  ImageFixture::Options options = ScriptMachine();
  options.cache.atom_size = 8;
  options.cache.persist_is_cheap = true;
  options.cache.mapped = true;
  options.disk.synchronous = true;
  Sweep(options, false, RunModesScript);
}

TEST(PowerCut, AnywhereInTheFirstStart) {
  PowerCutSweep sweep(ScriptMachine(), SweepOptions());
  sweep.Arm();
  ASSERT_THAT(sweep.machine().Start(), IsOk());
  Report(sweep);
  EXPECT_THAT(sweep.status(), IsOk());
}

// The same cuts without copying: the core meets a device that fails under its
// hands, and must unwind.
TEST(PowerCut, TheCoreUnwindsWhenTheDeviceGoesOff) {
  uint64_t cuts = 0;
  for (uint64_t cut = 0;; cut += 7) {
    ImageFixture machine(ScriptMachine());
    ASSERT_THAT(machine.Start(/*judge=*/false), IsOk());
    machine.cache_device().StopAt(cut);
    RunScript(machine);
    ASSERT_THAT(machine.status(), IsOk()) << "cut " << cut;
    if (!machine.cache_device().stopped()) break;
    ++cuts;
    machine.CutPower(cut);
    ASSERT_THAT(machine.Start(), IsOk()) << "cut " << cut;
    ASSERT_THAT(WorkAfterCrash(machine), IsOk()) << "cut " << cut;
  }
  std::cout << "cut at " << cuts << " I/Os\n";
}

}  // namespace
}  // namespace pcachefs

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  FLAGS_minloglevel = google::GLOG_FATAL;  // crashes are the daily bread here
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  return RUN_ALL_TESTS();
}
