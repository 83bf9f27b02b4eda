// Proves the promises about power cuts and crashes of the daemon by trying them
// at every I/O of a fixed script (test/sim/script.h).
//
// At each change of either device the whole machine is copied, as it is at that
// instant. Each copy loses power, with several choices of what survives, or its
// daemon; it starts again and the oracle judges the image and the backing
// device. The copy must then go on working, and survive another cut. For some
// copies power goes off again at each I/O of that very start.

#include <cstdint>
#include <iostream>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gflags/gflags.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "meta/status_macros.h"
#include "meta/units.h"
#include "test/sim/script.h"
#include "test/testing/image_fixture.h"
#include "test/testing/status_matchers.h"

DEFINE_int64(cut, -1, "explore only the cut at this I/O");
DEFINE_uint64(survivors, 3, "choices of what survives, per cut");

namespace pcachefs {
namespace {

// Goes on working after a crash: nothing that was true before may break.
absl::Status Work(ImageFixture& machine) {
  RETURN_IF_ERROR(machine.Write(Bytes(3 * kBlockSize, 8192)));
  RETURN_IF_ERROR(machine.Flush());
  RETURN_IF_ERROR(machine.Write(Bytes(4 * kBlockSize, 1536)));
  RETURN_IF_ERROR(machine.Read(Bytes(0, 64 * kKiB)));
  for (int i = 0; i < 10; ++i) machine.Pump();
  return machine.JudgeBacking(1);
}

class PowerCutSweep {
 public:
  explicit PowerCutSweep(const ImageFixture::Options& options)
      : machine_(options) {}

  ImageFixture& machine() { return machine_; }

  // From now on every I/O of the machine is explored.
  void Arm() {
    machine_.cache_device().set_hook([this] { Explore(); });
    machine_.disk().set_hook([this] { Explore(); });
  }

  void Report() const {
    std::cout << "cut at " << cuts_ << " I/Os and at " << nested_
              << " of a start after one; " << states_ << " states in all\n";
  }

  const absl::Status& status() const { return status_; }
  uint64_t cuts() const { return cuts_; }

 private:
  void Explore() {
    const int64_t cut = cuts_++;
    if (!status_.ok() || (FLAGS_cut >= 0 && FLAGS_cut != cut)) return;
    for (uint64_t seed = 0; seed <= FLAGS_survivors && status_.ok(); ++seed) {
      // The last choice: it is only the daemon.
      const bool power = seed < FLAGS_survivors;
      absl::Status status = TryOne(cut * 1000 + seed, power, seed == 0);
      if (status.ok()) continue;
      status_ = absl::Status(
          status.code(),
          absl::StrCat("cut at I/O ", cut, power ? ", survivors " : ", daemon ",
                       seed, ": ", std::string(status.message()),
                       "\nTo repeat it: --cut=", cut));
    }
  }

  absl::Status TryOne(uint64_t seed, bool power, bool nested) {
    ++states_;
    RETURN_IF_ERROR(machine_.status());
    auto copy = machine_.Fork(seed);
    power ? copy->CutPower(seed) : copy->Crash();
    RETURN_IF_ERROR(copy->Check());
    absl::Status inner;
    if (nested) {
      copy->cache_device().set_hook([&] {
        if (inner.ok()) inner = CutAgain(*copy, seed + 500);
      });
    }
    const absl::Status started = copy->Start(/*judge=*/false);
    copy->cache_device().set_hook(nullptr);
    RETURN_IF_ERROR(inner);
    RETURN_IF_ERROR(started);
    RETURN_IF_ERROR(copy->Judge());
    RETURN_IF_ERROR(copy->JudgeBacking(seed));
    RETURN_IF_ERROR(Work(*copy));
    ++states_;
    copy->CutPower(seed + 1);
    RETURN_IF_ERROR(copy->Check());
    RETURN_IF_ERROR(copy->Start());
    return copy->JudgeBacking(seed);
  }

  // Power goes off a second time, while the machine starts.
  absl::Status CutAgain(const ImageFixture& machine, uint64_t seed) {
    ++states_;
    ++nested_;
    auto copy = machine.Fork(seed);
    copy->CutPower(seed);
    absl::Status status = copy->Start();
    if (status.ok()) status = copy->JudgeBacking(seed);
    if (status.ok()) return status;
    return absl::Status(status.code(),
                        absl::StrCat("cut again while starting: ",
                                     std::string(status.message())));
  }

  ImageFixture machine_;
  absl::Status status_;
  int64_t cuts_ = 0;
  uint64_t nested_ = 0;
  uint64_t states_ = 0;
};

void Sweep(const ImageFixture::Options& options, bool fill_log,
           void (*run)(ImageFixture&) = RunScript) {
  PowerCutSweep sweep(options);
  // Judging would fill the cache, and leave the script no misses.
  ASSERT_THAT(sweep.machine().Start(/*judge=*/false), IsOk());
  if (fill_log) FillLogSegment(sweep.machine());
  sweep.Arm();

  run(sweep.machine());

  sweep.Report();
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
  PowerCutSweep sweep(ScriptMachine());
  sweep.Arm();
  ASSERT_THAT(sweep.machine().Start(), IsOk());
  sweep.Report();
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
    ASSERT_THAT(Work(machine), IsOk()) << "cut " << cut;
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
