#include "test/sim/simulator.h"

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "meta/status_macros.h"
#include "test/fakes/random.h"
#include "test/sim/administration.h"
#include "test/sim/disturbances.h"
#include "test/sim/load.h"
#include "test/sim/machine.h"

namespace pcachefs {
namespace {

class Life {
 public:
  Life(uint64_t seed, SimulationCounts& counts)
      : random_(seed),
        counts_(counts),
        machine_(RandomMachine(random_)),
        load_(machine_, random_, counts_),
        administration_(machine_, random_, counts_),
        disturbances_(machine_, random_, counts_),
        in_flight_max_(random_.Between(1, 16)),
        crash_percent_(random_.Below(4)) {}

  absl::Status Run() {
    RETURN_IF_ERROR(Begin());
    for (size_t i = 0; i < machine_.image_count(); ++i) {
      if (machine_.stopped()) RETURN_IF_ERROR(EndAndBegin());
      if (!machine_.is_served(i)) machine_.Attach(i).IgnoreError();
      RETURN_IF_ERROR(machine_.status());
    }
    if (random_.Percent(10)) load_.FillLog();
    const uint64_t steps = random_.Between(100, 600);
    for (uint64_t step = 0; step < steps; ++step) {
      if (machine_.stopped()) RETURN_IF_ERROR(EndAndBegin());
      load_.Next();
      RETURN_IF_ERROR(administration_.Perhaps());
      if (!machine_.stopped()) RETURN_IF_ERROR(disturbances_.Perhaps());
      RETURN_IF_ERROR(PerhapsEnd());
      for (uint64_t i = random_.Below(4); i > 0; --i) machine_.Pump();
      RETURN_IF_ERROR(LimitRequests());
    }
    RETURN_IF_ERROR(End());
    counts_.failed_requests += machine_.state().failed_requests;
    counts_.lost_reports += machine_.state().lost_reports;
    for (size_t i = 0; i < machine_.image_count(); ++i) {
      counts_.short_disk_transfers +=
          machine_.image(i).disk().short_transfers();
    }
    counts_.short_cache_transfers += machine_.cache_device().short_transfers();
    return absl::OkStatus();
  }

 private:
  absl::Status LimitRequests() {
    while (machine_.in_flight() >= in_flight_max_ && !machine_.stopped()) {
      if (random_.Percent(10)) {
        RETURN_IF_ERROR(machine_.Settle());
      } else {
        for (int i = 0; i < 20; ++i) machine_.Pump();
      }
      RETURN_IF_ERROR(machine_.status());
    }
    return machine_.status();
  }

  // Time passes, devices stop soon, or everything ends now.
  absl::Status PerhapsEnd() {
    if (random_.Percent(4)) RETURN_IF_ERROR(JudgeBacking());
    if (random_.Percent(2)) machine_.RunIdle();
    if (random_.Percent(2)) machine_.clock().Advance(absl::Seconds(3));
    if (disturbances_.cache_fails() && machine_.failed() &&
        random_.Percent(20)) {
      return EndAndBegin();
    }
    if (!random_.Percent(crash_percent_)) return machine_.status();
    switch (random_.Below(4)) {
      case 0:
        counts_.Count("stop at a change");
        machine_.cache_device().StopAt(random_.Below(20));
        return machine_.status();
      case 1:
        if (JudgedImage* image = machine_.AnyServed()) {
          counts_.Count("disk stops at a change");
          image->disk().StopAt(random_.Below(5));
        }
        return machine_.status();
      case 2:
        return EndAndBegin();
      default:
        return StopAndBegin();
    }
  }

  absl::Status StopAndBegin() {
    counts_.Count("clean stop");
    disturbances_.Calm();
    const absl::Status stopped = machine_.Stop();
    RETURN_IF_ERROR(machine_.status());
    return stopped.ok() ? Begin() : EndAndBegin();
  }

  absl::Status JudgeBacking() {
    ++counts_.backing_judgements;
    machine_.JudgeBacking(random_.Next());
    return machine_.status();
  }

  void CrashOrCut() {
    if (random_.Percent(50)) {
      counts_.Count("crash of the daemon");
      machine_.Crash();
    } else {
      counts_.Count("power cut");
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
      if (!machine_.stopped()) {
        RETURN_IF_ERROR(started);
        return JudgeBacking();
      }
      RETURN_IF_ERROR(machine_.status());
      machine_.cache_device().set_full(false);
      CrashOrCut();
    }
  }

  absl::Status EndAndBegin() {
    if (random_.Percent(10)) RETURN_IF_ERROR(disturbances_.RotRecords());
    CrashOrCut();
    RETURN_IF_ERROR(machine_.Check());
    return Begin();
  }

  absl::Status End() {
    disturbances_.Calm();
    if (machine_.stopped() || machine_.failed()) {
      RETURN_IF_ERROR(EndAndBegin());
      disturbances_.Calm();
    }
    for (size_t i = 0; i < machine_.image_count(); ++i) {
      if (!machine_.is_served(i)) continue;
      // The first one may hear of an error before the calm.
      if (!machine_.Drain(i).ok()) RETURN_IF_ERROR(machine_.Drain(i));
    }
    RETURN_IF_ERROR(machine_.Judge());
    RETURN_IF_ERROR(machine_.Stop());
    RETURN_IF_ERROR(machine_.Check());
    return machine_.Start();
  }

  Random random_;
  SimulationCounts& counts_;
  Machine machine_;
  Load load_;
  Administration administration_;
  Disturbances disturbances_;
  const size_t in_flight_max_;
  const uint64_t crash_percent_;
};

}  // namespace

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
