#include "test/testing/simulated_machine.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/check.h"
#include "glog/logging.h"
#include "meta/status_macros.h"
#include "meta/units.h"
#include "test/fakes/random.h"

namespace pcachefs {
namespace {

// Rounds without any progress after which a request is stuck. Time advances by
// 10 ms in each, so that this is far beyond the longest back-off.
constexpr int kPatience = 5000;
// Rounds in all: nothing takes so long unless something runs in a circle.
constexpr int kRounds = 50'000;

absl::Status Stopped() { return absl::UnavailableError("the machine stopped"); }

}  // namespace

SimulatedMachine::SimulatedMachine(uint64_t seed, const SimulatedMachine& other)
    : state_(seed), payload_rotted_(other.payload_rotted_) {
  state_.cache_device = other.state_.cache_device->Fork();
  state_.violation = other.state_.violation;
}

void SimulatedMachine::Connect(std::vector<JudgedImage*> images) {
  images_ = std::move(images);
  const auto stop_all = [this] {
    cache_device().Stop();
    for (JudgedImage* image : images_) image->disk().Stop();
  };
  cache_device().set_on_stop(stop_all);
  for (JudgedImage* image : images_) image->disk().set_on_stop(stop_all);
}

absl::Status SimulatedMachine::Open(CacheOptions options) {
  options.start_threads = false;
  auto cache = Cache::Open(cache_device(), options, clock_);
  if (cache.ok()) cache_ = *std::move(cache);
  return cache.status();
}

absl::Status SimulatedMachine::status() const {
  RETURN_IF_ERROR(state_.violation);
  for (const JudgedImage* image : images_) RETURN_IF_ERROR(image->status());
  return absl::OkStatus();
}

absl::Status SimulatedMachine::Check() {
  CHECK(!is_on());
  const absl::StatusOr<CheckReport> report = CheckCache(cache_device(), {});
  state_.Violate(report.status());
  if (report.ok() && report->damaged()) {
    for (const CheckFinding& finding : report->findings) {
      if (finding.severity != CheckFinding::Severity::kDamage) continue;
      // It is there to find that, too.
      if (payload_rotted_ &&
          absl::StrContains(finding.message, "wrong checksum")) {
        continue;
      }
      // Growth was cut short on memory, where a store tears within a slot.
      if (cache_device().atom_size() < kSectorSize &&
          absl::StartsWith(finding.message, "superblock at")) {
        continue;
      }
      state_.Violate(absl::DataLossError("checker: " + finding.message));
    }
  }
  return status();
}

absl::Status SimulatedMachine::Stop() {
  VLOG(1) << "clean stop";
  RETURN_IF_ERROR(Settle());
  if (stopped()) return Stopped();
  const absl::Status closed = cache_->Close();
  if (stopped()) return Stopped();
  for (JudgedImage* image : images_) {
    if (closed.ok() && image->is_served()) image->OnCleanStop();
  }
  if (!closed.ok() && !state_.faults_expected) state_.Violate(closed);
  // Writeback in flight still ends, as it does when a device is closed.
  cache_ = nullptr;
  size_t pending = cache_device().pending();
  for (JudgedImage* image : images_) {
    image->OnGone();
    pending += image->disk().pending();
  }
  if (pending > 0) {
    state_.Violate(
        absl::InternalError("I/O in flight after the cache is gone"));
  }
  SwitchOff();
  cache_device().Resume();
  for (JudgedImage* image : images_) image->disk().Resume();
  RETURN_IF_ERROR(status());
  return closed;
}

void SimulatedMachine::SwitchOff() {
  state_.going_down = true;
  cache_device().Stop();
  for (JudgedImage* image : images_) image->disk().Stop();
  // A completion may submit more, which fails at once.
  for (int i = 0; i < kPatience; ++i) {
    bool completed = cache_device().Step();
    for (JudgedImage* image : images_) completed |= image->disk().Step();
    if (!completed) break;
  }
  cache_ = nullptr;
  cache_device().CompletePending();
  for (JudgedImage* image : images_) {
    image->disk().CompletePending();
    image->OnGone();
  }
  state_.going_down = false;
}

void SimulatedMachine::Crash() {
  VLOG(1) << "the daemon dies";
  SwitchOff();
  cache_device().Restart();
  for (JudgedImage* image : images_) image->disk().Restart();
}

void SimulatedMachine::CutPower(uint64_t seed) {
  VLOG(1) << "power cut";
  SwitchOff();
  Random random(seed);
  cache_device().CutPower(random);
  for (JudgedImage* image : images_) {
    image->disk().CutPower(random);
    image->OnPowerCut();
  }
}

void SimulatedMachine::Pump() {
  Random& random = state_.random;
  switch (random.Below(8)) {
    case 0:
    case 1:
    case 2:
      if (images_[random.Below(images_.size())]->disk().Step()) return;
      break;
    case 3:
    case 4:
      if (cache_device().Step()) return;
      break;
    case 5:
      clock_.Advance(absl::Milliseconds(random.Between(1, 20)));
      return;
    default:
      break;
  }
  cache_->Step();
}

bool SimulatedMachine::Round() {
  bool progress = cache_device().Step();
  for (JudgedImage* image : images_) progress |= image->disk().Step();
  progress |= cache_->Step();
  clock_.Advance(absl::Milliseconds(progress ? 1 : 10));
  return progress;
}

size_t SimulatedMachine::in_flight() const {
  size_t count = 0;
  for (const JudgedImage* image : images_) count += image->in_flight();
  return count;
}

absl::Status SimulatedMachine::Settle() {
  int idle = 0;
  for (int round = 0; in_flight() > 0 && round < kRounds; ++round) {
    RETURN_IF_ERROR(status());
    if (stopped()) break;
    idle = Round() ? 0 : idle + 1;
    if (idle > kPatience) break;
  }
  for (JudgedImage* image : images_) {
    image->ForgetAnswered();
    if (image->in_flight() > 0 && !stopped()) {
      state_.Violate(absl::DeadlineExceededError(
          absl::StrCat("never answered: ", image->DescribeWaiting())));
    }
  }
  return status();
}

void SimulatedMachine::RunIdle() {
  int idle = 0;
  for (int round = 0; idle < 20 && round < kRounds; ++round) {
    if (stopped()) return;
    idle = Round() ? 0 : idle + 1;
    clock_.Advance(absl::Milliseconds(100));
  }
  for (JudgedImage* image : images_) image->ForgetAnswered();
}

}  // namespace pcachefs
