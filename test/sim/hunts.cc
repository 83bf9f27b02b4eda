#include "test/sim/hunts.h"

#include <functional>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "meta/status_macros.h"
#include "test/sim/operations_sweep.h"
#include "test/sim/power_cut_sweep.h"
#include "test/sim/script.h"
#include "test/sim/simulator.h"
#include "test/sim/traps.h"

namespace pcachefs {
namespace {

constexpr uint64_t kStride = 32;

using Round = std::function<absl::Status(uint64_t round, Catch& found)>;

Catch RunRounds(uint64_t rounds, const Round& run) {
  Catch found;
  while (found.rounds < rounds && found.status.ok()) {
    found.status = run(found.rounds, found);
    ++found.rounds;
  }
  return found;
}

absl::Status LiveOnce(uint64_t round, Catch& found) {
  SimulationCounts counts;
  absl::Status status = Simulate(/*seed=*/1 + round, counts);
  found.states += counts.crash_states();
  return status;
}

Round CutScript(const ImageFixture::Options& options, bool fill_log,
                void (*run)(ImageFixture&)) {
  return [=](uint64_t round, Catch& found) -> absl::Status {
    PowerCutSweep sweep(
        options,
        {.survivors = 3, .nested = false, .first = round, .stride = kStride});
    RETURN_IF_ERROR(sweep.machine().Start(/*judge=*/false));
    if (fill_log) FillLogSegment(sweep.machine());
    sweep.Arm();
    run(sweep.machine());
    found.states += sweep.states();
    RETURN_IF_ERROR(sweep.status());
    return sweep.machine().status();
  };
}

ImageFixture::Options OnMemory() {
  ImageFixture::Options options = ScriptMachine();
  options.cache.atom_size = 8;
  options.cache.persist_is_cheap = true;
  options.cache.mapped = true;
  return options;
}

absl::Status RollLog(uint64_t round, Catch& found) {
  PowerCutSweep sweep(
      ScriptMachine(),
      {.survivors = 5, .nested = false, .first = round, .stride = 2});
  RETURN_IF_ERROR(sweep.machine().Start(/*judge=*/false));
  FillLogSegment(sweep.machine());
  RunRollScript(sweep.machine(), [&] { sweep.Arm(); });
  found.states += sweep.states();
  RETURN_IF_ERROR(sweep.status());
  return sweep.machine().status();
}

absl::Status RunFull(uint64_t, Catch&) {
  ImageFixture machine(SmallestShare());
  RETURN_IF_ERROR(machine.Start(/*judge=*/false));
  RunFullScript(machine);
  return machine.status();
}

absl::Status FailPersist(uint64_t round, Catch& found) {
  ImageFixture machine(ScriptMachine());
  RETURN_IF_ERROR(machine.Start(/*judge=*/false));
  machine.set_faults_expected(true);
  machine.cache_device().FailNth(FakeCacheDevice::kPersist, round);
  RunScript(machine);
  RETURN_IF_ERROR(machine.status());
  machine.CutPower(round);
  ++found.states;
  machine.set_faults_expected(false);
  return machine.Start();
}

}  // namespace

Catch Hunt(const std::string& hunt, uint64_t rounds) {
  const auto most = [&](uint64_t usual) {
    return rounds == 0 ? usual : rounds;
  };
  if (hunt == "lives") return RunRounds(most(300), LiveOnce);
  if (hunt == "cuts") {
    return RunRounds(most(kStride),
                     CutScript(ScriptMachine(), false, RunScript));
  }
  if (hunt == "memory") {
    return RunRounds(most(kStride), CutScript(OnMemory(), false, RunScript));
  }
  if (hunt == "modes") {
    return RunRounds(most(kStride),
                     CutScript(ScriptMachine(), false, RunModesScript));
  }
  if (hunt == "roll") return RunRounds(most(2), RollLog);
  if (hunt == "full") return RunRounds(most(1), RunFull);
  if (hunt == "persists") return RunRounds(most(60), FailPersist);
  for (const Trap& trap : Traps()) {
    if (hunt != trap.name) continue;
    return RunRounds(most(trap.rounds), [&](uint64_t round, Catch& found) {
      return trap.spring(round, found.states);
    });
  }
  for (const ManagedOperation& operation : ManagedOperations()) {
    if (hunt != operation.name) continue;
    const SweepResult result =
        SweepOperation(operation, {.survivors = 20, .only_power_cuts = true});
    return {.status = result.status, .rounds = 1, .states = result.states};
  }
  LOG(FATAL) << "no such hunt: " << hunt;
}

}  // namespace pcachefs
