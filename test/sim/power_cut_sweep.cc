#include "test/sim/power_cut_sweep.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {

absl::Status WorkAfterCrash(ImageFixture& machine) {
  RETURN_IF_ERROR(machine.Write(Bytes(3 * kBlockSize, 8192)));
  RETURN_IF_ERROR(machine.Flush());
  RETURN_IF_ERROR(machine.Write(Bytes(4 * kBlockSize, 1536)));
  RETURN_IF_ERROR(machine.Read(Bytes(0, 64 * kKiB)));
  for (int i = 0; i < 10; ++i) machine.Pump();
  return machine.JudgeBacking(1);
}

void PowerCutSweep::Arm() {
  machine_.cache_device().set_hook([this] { Explore(); });
  machine_.disk().set_hook([this] { Explore(); });
}

void PowerCutSweep::Disarm() {
  machine_.cache_device().set_hook(nullptr);
  machine_.disk().set_hook(nullptr);
}

bool PowerCutSweep::Chosen(uint64_t cut) const {
  if (options_.only_cut >= 0) {
    return cut == static_cast<uint64_t>(options_.only_cut);
  }
  return cut >= options_.first && (cut - options_.first) % options_.stride == 0;
}

void PowerCutSweep::Explore() {
  const uint64_t cut = cuts_++;
  if (!status_.ok() || !Chosen(cut)) return;
  for (uint64_t seed = 0; seed <= options_.survivors && status_.ok(); ++seed) {
    // The last choice: it is only the daemon.
    const bool power = seed < options_.survivors;
    absl::Status status =
        TryOne(cut * 1000 + seed, power, options_.nested && seed == 0);
    if (status.ok()) continue;
    status_ = absl::Status(
        status.code(),
        absl::StrCat("cut at I/O ", cut, power ? ", survivors " : ", daemon ",
                     seed, ": ", std::string(status.message()),
                     "\nTo repeat it: --cut=", cut));
  }
}

absl::Status PowerCutSweep::TryOne(uint64_t seed, bool power, bool nested) {
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
  if (options_.judge) RETURN_IF_ERROR(copy->Judge());
  RETURN_IF_ERROR(copy->JudgeBacking(seed));
  RETURN_IF_ERROR(options_.work(*copy));
  ++states_;
  copy->CutPower(seed + 1);
  RETURN_IF_ERROR(copy->Check());
  RETURN_IF_ERROR(copy->Start());
  return copy->JudgeBacking(seed);
}

absl::Status PowerCutSweep::CutAgain(const ImageFixture& machine,
                                     uint64_t seed) {
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

}  // namespace pcachefs
