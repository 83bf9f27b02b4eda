#include "test/sim/operations_sweep.h"

#include <functional>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/image_settings.h"
#include "meta/records.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

constexpr uint64_t kImageSize = kMiB;

Machine::Options TheMachine(bool on_memory) {
  Machine::Options options;
  options.cache.size = 24 * kMiB;
  options.cache.first_size = 20 * kMiB;
  if (on_memory) {
    options.cache.atom_size = 8;
    options.cache.mapped = true;
    options.cache.persist_is_cheap = true;
  }
  options.format.segment_size = kMiB;
  for (int i = 0; i < 2; ++i) {
    Machine::ImageSpec spec;
    spec.judged.name = absl::StrCat("vm", i);
    spec.judged.disk.size = kImageSize;
    if (i == 0) spec.judged.disk.first_size = kImageSize / 2;
    spec.judged.disk.identity = absl::StrCat("ino=", i + 1, ",fsid=simulated");
    spec.image.cache_size = 7 * kMiB;
    options.images.push_back(spec);
  }
  return options;
}

void Write(Machine& machine, size_t i, uint64_t offset, uint64_t length) {
  if (!machine.is_served(i)) return;
  machine.image(i).StartWrite(Bytes(offset, length));
  machine.Settle().IgnoreError();
}

void Flush(Machine& machine, size_t i) {
  if (!machine.is_served(i)) return;
  machine.image(i).StartFlush();
  machine.Settle().IgnoreError();
}

// Clean data, dirty and flushed data, and what nobody has flushed.
void Use(Machine& machine, size_t i) {
  Write(machine, i, 0, 32 * kKiB);
  machine.Drain(i).IgnoreError();
  Write(machine, i, 16 * kKiB, 32 * kKiB);
  Flush(machine, i);
  Write(machine, i, 40 * kKiB + 512, 8 * kKiB);
}

void Keep(Machine& machine) {
  machine.Detach(0, DetachKind::kKeepDirty).IgnoreError();
}
void DrainAndRemove(Machine& machine) {
  machine.Drain(0).IgnoreError();
  machine.Detach(0, DetachKind::kRemove).IgnoreError();
}
void DrainFirst(Machine& machine) { machine.Drain(0).IgnoreError(); }
void StopFirst(Machine& machine) { machine.Stop().IgnoreError(); }
void CrashFirst(Machine& machine) { machine.Crash(); }
// The start after the crash dies too, when it has stored its first record.
void DieInTheStart(Machine& machine) {
  machine.Crash();
  machine.cache_device().StopAt(1);  // the persist comes before it
  machine.Start(/*judge=*/false).IgnoreError();
  machine.Crash();
}
void CutFirst(Machine& machine) { machine.CutPower(3); }
void GoAround(Machine& machine) {
  machine.image(0).StartSetMode(CacheMode::kWritethrough);
  machine.Settle().IgnoreError();
  Write(machine, 0, 8 * kKiB, 4 * kKiB);
  Flush(machine, 0);
  Write(machine, 0, 8 * kKiB, 4 * kKiB);
}
void FillTheShare(Machine& machine) {
  for (int round = 0; round < 8; ++round) {
    Write(machine, 0, 0, kImageSize / 2);
    Flush(machine, 0);
  }
}

absl::Status SwitchTo(Machine& machine, CacheMode mode) {
  machine.image(0).StartSetMode(mode);
  return machine.Settle();
}

absl::Status StartAgain(Machine& machine) {
  return machine.Start(/*judge=*/false);
}

constexpr ManagedOperation kOperations[] = {
    {"attach a new image", DrainAndRemove,
     [](Machine& m) { return m.Attach(0); }},
    {"attach a kept image", Keep, [](Machine& m) { return m.Attach(0); }},
    {"attach an image that has grown",
     [](Machine& m) {
       Keep(m);
       m.image(0).disk().Grow();
     },
     [](Machine& m) { return m.Attach(0); }},
    {"attach the wrong disk", Keep,
     [](Machine& m) { return m.AttachWrongDisk(0); }},
    {"detach", DrainFirst,
     [](Machine& m) { return m.Detach(0, DetachKind::kRemove); }},
    {"detach keeping dirty data", nullptr,
     [](Machine& m) { return m.Detach(0, DetachKind::kKeepDirty); }},
    {"detach discarding dirty data", nullptr,
     [](Machine& m) { return m.Detach(0, DetachKind::kDiscard); }},
    {"discard a kept image", Keep,
     [](Machine& m) { return m.Detach(0, DetachKind::kDiscard); }},
    {"drain", nullptr, [](Machine& m) { return m.Drain(0); }},
    {"image grows", [](Machine& m) { m.image(0).disk().Grow(); },
     [](Machine& m) {
       m.clock().Advance(absl::Seconds(3));
       for (int i = 0; i < 5 && !m.stopped(); ++i) m.cache().Step();
       if (!m.stopped() && m.image(0).image().size() == kImageSize) {
         Write(m, 0, kImageSize - 4 * kKiB, 4 * kKiB);
         Flush(m, 0);
       }
       return absl::OkStatus();
     }},
    {"cache device grows", nullptr, [](Machine& m) { return m.GrowCache(); }},
    {"larger share", nullptr, [](Machine& m) { return m.SetShare(0, 9); }},
    {"smaller share", FillTheShare,
     [](Machine& m) { return m.SetShare(0, 6); }},
    {"share of a kept image", Keep,
     [](Machine& m) { return m.SetShare(0, 8); }},
    {"mode to writethrough", nullptr,
     [](Machine& m) { return SwitchTo(m, CacheMode::kWritethrough); }},
    {"mode to writeonly", nullptr,
     [](Machine& m) { return SwitchTo(m, CacheMode::kWriteonly); }},
    {"mode back to writeback", GoAround,
     [](Machine& m) { return SwitchTo(m, CacheMode::kWriteback); }},
    {"order to grouped and back", nullptr,
     [](Machine& m) {
       m.image(0).SetOrder(WritebackOrder::kGrouped);
       if (!m.stopped()) m.image(0).SetOrder(WritebackOrder::kStrict);
       return m.Settle();
     }},
    {"settings", nullptr,
     [](Machine& m) { return m.image(0).image().Change({.gc_percent = 20}); }},
    {"reclaim", FillTheShare,
     [](Machine& m) {
       for (int round = 0; round < 4; ++round) {
         Write(m, 0, 0, kImageSize / 2);
         if (!m.stopped()) m.Drain(0).IgnoreError();
       }
       return absl::OkStatus();
     }},
    {"idle", nullptr,
     [](Machine& m) {
       m.RunIdle();
       return absl::OkStatus();
     }},
    {"stop", nullptr, [](Machine& m) { return m.Stop(); }},
    {"start after a clean stop", StopFirst, StartAgain},
    {"start after a crash", CrashFirst, StartAgain},
    {"start after a power cut", CutFirst, StartAgain},
    {"start after a crash, on memory", CrashFirst, StartAgain, true},
    {"start after a start that died, on memory", DieInTheStart, StartAgain,
     true},
    {"detach discarding, on memory", nullptr,
     [](Machine& m) { return m.Detach(0, DetachKind::kDiscard); }, true},
    {"cache device grows, on memory", nullptr,
     [](Machine& m) { return m.GrowCache(); }, true},
};

// A violation, not an answer.
absl::Status WorkOn(Machine& machine) {
  for (size_t i = 0; i < machine.image_count(); ++i) {
    if (!machine.is_served(i)) RETURN_IF_ERROR(machine.Attach(i));
    Use(machine, i);
  }
  RETURN_IF_ERROR(machine.status());
  RETURN_IF_ERROR(machine.Judge());
  machine.JudgeBacking(1);
  return machine.status();
}

class Sweep {
 public:
  Sweep(const ManagedOperation& operation, const OperationSweepOptions& options)
      : operation_(operation), options_(options) {
    Machine machine(TheMachine(operation.on_memory));
    machine.Start(/*judge=*/false).IgnoreError();
    for (size_t i = 0; i < machine.image_count(); ++i) {
      machine.Attach(i).IgnoreError();
      Use(machine, i);
    }
    machine.Stop().IgnoreError();
    result_.status = machine.status();
    start_ = machine.Fork(1);
    start_->Crash();
  }

  SweepResult Run() {
    // With several choices of what survives.
    for (seed_ = 0; seed_ < options_.survivors; ++seed_) {
      Each(
          "power cut",
          [](Machine& m, uint64_t i) { m.cache_device().StopAt(i); }, true);
    }
    if (options_.only_power_cuts) return std::move(result_);
    Each(
        "death", [](Machine& m, uint64_t i) { m.cache_device().StopAt(i); },
        false);
    Each(
        "power cut at the disk",
        [](Machine& m, uint64_t i) { m.image(0).disk().StopAt(i); }, true);
    for (const uint32_t kind : {FakeCacheDevice::kWrite, FakeCacheDevice::kRead,
                                FakeCacheDevice::kPersist}) {
      Each(
          absl::StrCat("cache device fault ", kind),
          [kind](Machine& m, uint64_t i) {
            m.state().faults_expected = true;
            m.cache_device().FailNth(kind, i);
          },
          kind != FakeCacheDevice::kRead);
    }
    Each(
        "disk fault",
        [](Machine& m, uint64_t i) {
          m.state().faults_expected = true;
          m.image(0).disk().FailNth(
              FakeDisk::kRead | FakeDisk::kWrite | FakeDisk::kFlush, i);
        },
        false);
    return std::move(result_);
  }

 private:
  using Arm = std::function<void(Machine&, uint64_t i)>;

  void Each(const std::string& what, const Arm& arm, bool cut_power) {
    bool interrupted = true;
    for (uint64_t i = 0; interrupted && result_.status.ok();
         i += options_.stride) {
      const absl::Status status = Try(arm, i, cut_power, interrupted);
      if (status.ok()) continue;
      result_.status = absl::Status(
          status.code(), absl::StrCat(operation_.name, ", ", what, " at I/O ",
                                      i, ": ", std::string(status.message())));
    }
  }

  absl::Status Try(const Arm& arm, uint64_t i, bool cut_power,
                   bool& interrupted) {
    ++result_.states;
    auto machine = start_->Fork(i);
    machine->Crash();
    RETURN_IF_ERROR(machine->Start(/*judge=*/false));
    // The first one last: while others are used it would be written back.
    for (size_t image = machine->image_count(); image-- > 0;) {
      if (!machine->is_served(image)) RETURN_IF_ERROR(machine->Attach(image));
      Use(*machine, image);
    }
    if (operation_.prepare != nullptr) operation_.prepare(*machine);
    RETURN_IF_ERROR(machine->status());
    const uint64_t before = machine->cache_device().changes();
    arm(*machine, i);
    operation_.run(*machine).IgnoreError();
    interrupted = machine->stopped() || machine->cache_device().fault_fired() ||
                  machine->image(0).disk().fault_fired();
    result_.changes =
        std::max(result_.changes, machine->cache_device().changes() - before);
    RETURN_IF_ERROR(machine->status());
    cut_power ? machine->CutPower(i * 16 + seed_) : machine->Crash();
    machine->state().faults_expected = false;
    RETURN_IF_ERROR(machine->Check());
    RETURN_IF_ERROR(machine->Start());
    machine->JudgeBacking(i);
    RETURN_IF_ERROR(WorkOn(*machine));
    machine->CutPower(i + 1);
    RETURN_IF_ERROR(machine->Check());
    RETURN_IF_ERROR(machine->Start());
    machine->JudgeBacking(i);
    return machine->status();
  }

  const ManagedOperation& operation_;
  const OperationSweepOptions options_;
  uint64_t seed_ = 0;
  std::unique_ptr<Machine> start_;
  SweepResult result_;
};

}  // namespace

std::span<const ManagedOperation> ManagedOperations() { return kOperations; }

SweepResult SweepOperation(const ManagedOperation& operation,
                           const OperationSweepOptions& options) {
  return Sweep(operation, options).Run();
}

}  // namespace pcachefs
