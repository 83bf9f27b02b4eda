#include "test/sim/simulator.h"

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "meta/records.h"
#include "meta/status_macros.h"
#include "meta/units.h"
#include "test/fakes/random.h"
#include "test/testing/image_fixture.h"
#include "test/testing/random_ops.h"

namespace pcachefs {
namespace {

template <typename T, size_t kCount>
T OneOf(Random& random, const T (&choices)[kCount]) {
  return choices[random.Below(kCount)];
}

CacheMode RandomMode(Random& random) {
  return OneOf(random, {CacheMode::kWriteback, CacheMode::kWritethrough,
                        CacheMode::kWritearound, CacheMode::kWriteonly,
                        CacheMode::kPassthrough});
}

WritebackOrder RandomOrder(Random& random) {
  return OneOf(random, {WritebackOrder::kStrict, WritebackOrder::kGrouped,
                        WritebackOrder::kRelaxed});
}

ImageFixture::Options RandomMachine(Random& random) {
  ImageFixture::Options options;
  options.seed = random.Next();
  // From 16 segments, the fewest there may be.
  options.cache.size = OneOf(random, {18 * kMiB, 18 * kMiB, 34 * kMiB});
  options.cache.seed = random.Next();
  options.cache.try_read_miss_percent = OneOf(random, {0, 0, 30, 100});
  options.cache.async_reads = random.Percent(70);
  if (random.Percent(30)) {
    options.cache.atom_size = 8;
    options.cache.mapped = true;
    options.cache.persist_is_cheap = true;
  }
  // Smaller than the cache, larger than it, and no whole number of blocks.
  options.disk.size =
      OneOf(random, {kMiB, 4 * kMiB, 24 * kMiB, 4 * kMiB + 512});
  options.disk.seed = random.Next();
  options.disk.synchronous = random.Percent(20);
  options.disk.block_size = OneOf(random, {512u, 4096u});
  options.disk_has_content = random.Percent(70);
  options.format.segment_size = kMiB;
  options.image.gc_percent = OneOf(random, {-1, 0, 10, 50, 90});
  // Half of the lives begin as most do, and many never change.
  if (random.Percent(50)) {
    options.image.mode = RandomMode(random);
    options.image.order = RandomOrder(random);
  }
  options.cache_options.writeback_batch =
      OneOf(random, {64 * kKiB, kMiB, 16 * kMiB});
  options.cache_options.commit_interval =
      absl::Milliseconds(OneOf(random, {5, 50, 1000}));
  return options;
}

RandomOps::Options RandomLoad(Random& random, uint64_t image_size) {
  RandomOps::Options load;
  load.image_size = image_size;
  load.writes = OneOf(random, {10, 50, 100});
  load.reads = OneOf(random, {10, 30, 100});
  load.flushes = OneOf(random, {0, 5, 20});
  load.discards = OneOf(random, {0, 5, 20});
  load.zeroes = OneOf(random, {0, 5});
  load.block_aligned = OneOf(random, {0, 50, 100});
  load.sector_aligned = (100 - load.block_aligned) / 2;
  // More than a key may have, now and then.
  load.length_max =
      OneOf(random, {8 * kKiB, 64 * kKiB, 512 * kKiB, 2 * kMiB + 4096});
  load.hot_percent = OneOf(random, {0, 50, 95});
  load.hot_length = OneOf(random, {8 * kKiB, 64 * kKiB});
  return load;
}

class Life {
 public:
  Life(uint64_t seed, SimulationCounts& counts)
      : random_(seed),
        counts_(counts),
        options_(RandomMachine(random_)),
        machine_(options_),
        ops_(RandomLoad(random_, options_.disk.size), random_.Split()),
        in_flight_max_(random_.Between(1, 16)),
        crash_percent_(random_.Below(4)),
        faulty_disk_(random_.Percent(25)),
        switch_percent_(OneOf(random_, {0, 0, 1, 5})) {}

  absl::Status Run() {
    machine_.set_faults_expected(faulty_disk_);
    RETURN_IF_ERROR(Begin());
    const uint64_t steps = random_.Between(100, 700);
    for (uint64_t step = 0; step < steps; ++step) {
      RETURN_IF_ERROR(Request());
      RETURN_IF_ERROR(Disturb());
      for (uint64_t i = random_.Below(4); i > 0; --i) machine_.Pump();
      while (machine_.in_flight() >= in_flight_max_) {
        RETURN_IF_ERROR(random_.Percent(10) ? machine_.Settle() : PumpFor(20));
        if (machine_.cache_device().stopped()) break;
      }
      if (machine_.cache_device().stopped()) RETURN_IF_ERROR(EndAndBegin());
      RETURN_IF_ERROR(machine_.status());
    }
    counts_.failed_requests += machine_.failed_requests();
    return End();
  }

 private:
  absl::Status PumpFor(int count) {
    for (int i = 0; i < count; ++i) machine_.Pump();
    return machine_.status();
  }

  absl::Status Request() {
    ++counts_.requests;
    const RandomOp op = ops_.Next();
    switch (op.kind) {
      case RandomOp::Kind::kRead:
        machine_.StartRead(op.range);
        break;
      case RandomOp::Kind::kWrite:
        machine_.StartWrite(op.range);
        break;
      case RandomOp::Kind::kZero:
        machine_.StartZero(op.range);
        break;
      case RandomOp::Kind::kDiscard:
        machine_.StartDiscard(op.range);
        break;
      case RandomOp::Kind::kFlush:
        machine_.StartFlush();
        break;
    }
    return machine_.status();
  }

  absl::Status Disturb() {
    if (random_.Percent(5)) RETURN_IF_ERROR(JudgeBacking());
    if (random_.Percent(2)) machine_.RunIdle();
    if (random_.Percent(2)) machine_.clock().Advance(absl::Seconds(3));
    if (faulty_disk_ && random_.Percent(5)) BreakDisk();
    if (random_.Percent(switch_percent_)) Switch();
    if (!random_.Percent(crash_percent_)) return machine_.status();
    switch (random_.Below(4)) {
      case 0:
        machine_.cache_device().StopAt(random_.Below(20));
        return machine_.status();
      case 1:
        machine_.disk().StopAt(random_.Below(5));
        return machine_.status();
      case 2:
        return EndAndBegin();
      default: {
        ++counts_.clean_stops;
        machine_.disk().ClearFaults();
        machine_.disk().set_hanging(false);
        const absl::Status stopped = machine_.Stop();
        RETURN_IF_ERROR(machine_.status());
        return stopped.ok() ? Begin() : EndAndBegin();
      }
    }
  }

  void Switch() {
    ++counts_.switches;
    if (random_.Percent(70)) {
      machine_.StartSetMode(RandomMode(random_));
    } else {
      machine_.SetOrder(RandomOrder(random_));
    }
  }

  void BreakDisk() {
    switch (random_.Below(4)) {
      case 0:
        machine_.disk().FailNth(FakeDisk::kRead, random_.Below(3));
        break;
      case 1:
        machine_.disk().FailNth(FakeDisk::kWrite | FakeDisk::kFlush,
                                random_.Below(3));
        break;
      case 2:
        machine_.disk().FailRange(FakeDisk::kWrite | FakeDisk::kRead,
                                  random_.Below(options_.disk.size), 4096,
                                  random_.Between(1, 5));
        break;
      default:
        machine_.disk().ClearFaults();
    }
  }

  absl::Status JudgeBacking() {
    ++counts_.backing_judgements;
    return machine_.JudgeBacking(random_.Next());
  }

  void CrashOrCut() {
    if (random_.Percent(50)) {
      ++counts_.crashes;
      machine_.Crash();
    } else {
      ++counts_.power_cuts;
      machine_.CutPower(random_.Next());
    }
  }

  // Starts; sometimes it takes several attempts, since power goes off again.
  absl::Status Begin() {
    for (int attempt = 0;; ++attempt) {
      if (attempt < 3 && random_.Percent(20)) {
        machine_.cache_device().StopAt(random_.Below(40));
      }
      const absl::Status started = machine_.Start();
      if (!machine_.cache_device().stopped()) {
        RETURN_IF_ERROR(started);
        return JudgeBacking();
      }
      RETURN_IF_ERROR(machine_.status());
      CrashOrCut();
    }
  }

  absl::Status EndAndBegin() {
    CrashOrCut();
    RETURN_IF_ERROR(machine_.Check());
    return Begin();
  }

  absl::Status End() {
    if (machine_.cache_device().stopped()) RETURN_IF_ERROR(EndAndBegin());
    machine_.disk().ClearFaults();
    machine_.cache_device().ClearFaults();
    RETURN_IF_ERROR(machine_.Drain());
    RETURN_IF_ERROR(machine_.Judge());
    RETURN_IF_ERROR(machine_.Stop());
    RETURN_IF_ERROR(machine_.Check());
    return machine_.Start();
  }

  Random random_;
  SimulationCounts& counts_;
  const ImageFixture::Options options_;
  ImageFixture machine_;
  RandomOps ops_;
  const size_t in_flight_max_;
  const uint64_t crash_percent_;
  const bool faulty_disk_;
  const uint64_t switch_percent_;  // of steps with a change of mode or order
};

}  // namespace

std::string SimulationCounts::ToString() const {
  return absl::StrCat(
      lives, " lives, ", requests, " requests (", failed_requests, " failed), ",
      crashes, " crashes, ", power_cuts, " power cuts, ", clean_stops,
      " clean stops, ", switches,
      " switches of mode or order, backing device judged ", backing_judgements, " times");
}

absl::Status Simulate(uint64_t seed, SimulationCounts& counts) {
  ++counts.lives;
  absl::Status status = Life(seed, counts).Run();
  if (status.ok()) return status;
  return absl::Status(
      status.code(),
      absl::StrCat(
          "seed ", seed, ": ", std::string(status.message()),
          "\nTo repeat it: bazel run //test/sim:soak -- --seed=", seed));
}

}  // namespace pcachefs
