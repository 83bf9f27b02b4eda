#include "test/sim/machine.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/check.h"
#include "glog/logging.h"
#include "meta/records.h"
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

}  // namespace

Machine::Machine(const Options& options)
    : options_(options), state_(options.seed) {
  state_.cache_device = std::make_unique<FakeCacheDevice>(options.cache);
  for (const ImageSpec& spec : options.images) {
    seats_.push_back(
        {.spec = spec,
         .image = std::make_unique<JudgedImage>(spec.judged, state_)});
  }
  Connect();
  state_.Violate(Cache::Format(cache_device(), options.format, clock_));
}

Machine::Machine(const Options& options, const Machine& other)
    : options_(options), state_(options.seed) {
  state_.cache_device = other.state_.cache_device->Fork();
  state_.violation = other.state_.violation;
  for (const Seat& seat : other.seats_) {
    seats_.push_back(
        {.spec = seat.spec,
         .image = std::make_unique<JudgedImage>(*seat.image, state_),
         .place = seat.place,
         .may_be_known = seat.may_be_known,
         .may_be_gone = seat.may_be_gone,
         .is_discarded = seat.is_discarded});
  }
  Connect();
}

Machine::~Machine() { SwitchOff(); }

std::unique_ptr<Machine> Machine::Fork(uint64_t seed) const {
  Options options = options_;
  options.seed = seed;
  return std::unique_ptr<Machine>(new Machine(options, *this));
}

void Machine::Connect() {
  // The whole machine goes off at once.
  const auto stop_all = [this] {
    cache_device().Stop();
    for (Seat& seat : seats_) seat.image->disk().Stop();
  };
  cache_device().set_on_stop(stop_all);
  for (Seat& seat : seats_) seat.image->disk().set_on_stop(stop_all);
}

absl::Status Machine::status() const {
  if (!state_.violation.ok()) return state_.violation;
  for (const Seat& seat : seats_) RETURN_IF_ERROR(seat.image->status());
  return absl::OkStatus();
}

JudgedImage* Machine::AnyServed() {
  std::vector<JudgedImage*> served;
  for (Seat& seat : seats_) {
    if (seat.image->is_served()) served.push_back(seat.image.get());
  }
  if (served.empty()) return nullptr;
  return served[state_.random.Below(served.size())];
}

bool Machine::failed() {
  return is_on() && cache_->status().state == HealthState::kFailed;
}

bool Machine::IsKnown(const std::string& name) const {
  const std::vector<ImageRecord> known = cache_->KnownImages();
  return std::any_of(
      known.begin(), known.end(),
      [&](const ImageRecord& record) { return record.name == name; });
}

void Machine::Renew(Seat& seat) {
  // Its disk may hold any state of the past.
  JudgedImage::Options judged = seat.spec.judged;
  judged.disk.identity =
      absl::StrCat(seat.spec.judged.disk.identity, ",renewed=", ++renewed_);
  judged.disk.seed += renewed_;
  seat.image = std::make_unique<JudgedImage>(judged, state_);
  seat.place = Place::kAway;
  Connect();
}

void Machine::TakeStock() {
  for (Seat& seat : seats_) {
    const bool known = IsKnown(seat.image->name());
    const bool was_known = seat.place != Place::kAway;
    if (known && !was_known) {
      if (!seat.may_be_known) {
        state_.Violate(absl::InternalError(absl::StrCat(
            seat.image->name(), " is known again after it was removed")));
      }
      seat.place = Place::kKept;
    } else if (!known && was_known) {
      if (!seat.may_be_gone) {
        state_.Violate(absl::DataLossError(
            absl::StrCat(seat.image->name(), " is forgotten")));
      }
      seat.place = Place::kAway;
      if (seat.is_discarded) Renew(seat);
    }
    seat.may_be_known = seat.may_be_gone = seat.is_discarded = false;
  }
}

absl::Status Machine::Start(bool judge) {
  CHECK(!is_on());
  RETURN_IF_ERROR(status());
  CacheOptions cache_options = options_.cache_options;
  cache_options.start_threads = false;
  auto cache = Cache::Open(cache_device(), cache_options, clock_);
  absl::Status failed = cache.status();
  if (failed.ok()) {
    cache_ = *std::move(cache);
    TakeStock();
    for (Seat& seat : seats_) {
      if (seat.place == Place::kServed && failed.ok()) {
        failed = Serve(seat, judge);
      }
    }
  }
  if (failed.ok()) return status();
  // Only a device that was made to fail may prevent a start.
  const bool reported = records_rotted_ && (absl::IsDataLoss(failed) ||
                                            absl::IsFailedPrecondition(failed));
  if (!stopped() && !cache_device().fault_fired() && !reported) {
    state_.Violate(failed);
  }
  SwitchOff();
  return failed;
}

absl::Status Machine::Serve(Seat& seat, bool judge) {
  auto image = cache_->Attach(seat.image->name(), seat.image->disk().Open(),
                              seat.spec.image);
  RETURN_IF_ERROR(image.status());
  seat.place = Place::kServed;
  seat.image->OnServed(*image);
  if (!judge) return absl::OkStatus();
  return seat.image->Judge([this] { Round(); });
}

absl::Status Machine::Attach(size_t i) {
  Seat& seat = seats_[i];
  CHECK(!seat.image->is_served());
  const bool is_new = seat.place == Place::kAway;
  // Whoever had the disk before has synced it.
  if (is_new) seat.image->disk().Sync();
  seat.image->disk().ClearFaults();
  absl::Status served = Serve(seat, /*judge=*/true);
  if (served.ok()) {
    // Its content is on the platter, and replay has flushed what it read.
    if (is_new) seat.image->reference().EndCleanStop();
    return status();
  }
  if (seat.image->is_served()) {  // judging has failed
    if (!stopped()) state_.Violate(served);
    return served;
  }
  seat.may_be_known |= is_new;
  const bool refused = is_new && (absl::IsResourceExhausted(served) ||
                                  absl::IsUnavailable(served));
  if (!refused && !stopped() && !state_.faults_expected) {
    state_.Violate(served);
  }
  return served;
}

absl::Status Machine::AttachWrongDisk(size_t i) {
  Seat& seat = seats_[i];
  FakeDisk::Options options = seat.spec.judged.disk;
  options.identity = "ino=0,fsid=foreign";
  FakeDisk wrong(options);
  const auto image =
      cache_->Attach(seat.image->name(), wrong.Open(), seat.spec.image);
  if (!absl::IsFailedPrecondition(image.status()) && !stopped()) {
    state_.Violate(absl::InternalError(
        absl::StrCat("another disk for ", seat.image->name(),
                     " is not refused: ", image.status().ToString())));
  }
  if (wrong.changes() > 0) {
    state_.Violate(absl::DataLossError("a wrong disk was written to"));
  }
  return image.status();
}

absl::Status Machine::Detach(size_t i, DetachKind kind) {
  Seat& seat = seats_[i];
  RETURN_IF_ERROR(Settle());
  if (stopped()) return absl::UnavailableError("the machine stopped");
  const bool was_dirty =
      seat.image->is_served() && seat.image->image().status().dirty_bytes > 0;
  const bool has_lost =
      seat.image->is_served() && seat.image->image().status().lost_bytes > 0;
  seat.may_be_gone = kind != DetachKind::kKeepDirty;
  seat.is_discarded = kind == DetachKind::kDiscard;
  const absl::Status detached = cache_->Detach(seat.image->name(), kind);
  const bool is_gone = cache_->Find(seat.image->name()) == nullptr;
  if (is_gone) seat.image->OnGone();
  if (stopped() || (!detached.ok() && is_gone)) {
    // The next start finds out.
    if (!stopped() && !state_.faults_expected) state_.Violate(detached);
    if (is_gone && seat.place == Place::kServed) seat.place = Place::kKept;
    return detached;
  }
  seat.may_be_gone = seat.is_discarded = false;
  if (!detached.ok()) {
    if (!absl::IsFailedPrecondition(detached) && !state_.faults_expected) {
      state_.Violate(detached);
    }
    return detached;
  }
  switch (kind) {
    case DetachKind::kKeepDirty:
      seat.place = Place::kKept;
      seat.image->OnCleanStop();
      break;
    case DetachKind::kRemove:
      seat.place = Place::kAway;
      if (was_dirty) {
        state_.Violate(absl::DataLossError("a dirty image was removed"));
      }
      if (has_lost) {
        state_.Violate(absl::DataLossError("lost ranges were forgotten"));
      }
      if (!seat.image->goes_around()) {
        seat.image->JudgeDrained();
        seat.image->OnCleanStop();
      }
      break;
    case DetachKind::kDiscard:
      Renew(seat);
  }
  return status();
}

absl::Status Machine::SetShare(size_t i, uint64_t segments) {
  const absl::Status set = cache_->SetShare(
      image(i).name(), segments * options_.format.segment_size);
  if (!set.ok() && !absl::IsResourceExhausted(set) && !stopped() &&
      !state_.faults_expected) {
    state_.Violate(set);
  }
  return set;
}

absl::Status Machine::GrowCache() {
  cache_device().Grow();
  const absl::Status grown = cache_->Grow().status();
  if (!grown.ok() && !stopped() && !state_.faults_expected) {
    state_.Violate(grown);
  }
  return grown;
}

absl::Status Machine::Drain(size_t i) {
  JudgedImage& drained = image(i);
  RETURN_IF_ERROR(Settle());
  if (stopped()) return absl::UnavailableError("the machine stopped");
  const auto answer =
      std::make_shared<absl::Status>(absl::UnknownError("not answered"));
  drained.StartDrain(answer);
  RETURN_IF_ERROR(Settle());
  RETURN_IF_ERROR(*answer);
  if (!drained.goes_around()) drained.JudgeDrained();
  return status();
}

absl::Status Machine::Judge() {
  for (Seat& seat : seats_) {
    if (!seat.image->is_served()) continue;
    RETURN_IF_ERROR(seat.image->Judge([this] { Round(); }));
  }
  return status();
}

absl::Status Machine::Check() {
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

absl::Status Machine::Stop() {
  VLOG(1) << "clean stop";
  RETURN_IF_ERROR(Settle());
  const absl::Status off = absl::UnavailableError("the machine stopped");
  if (stopped()) return off;
  const absl::Status closed = cache_->Close();
  if (stopped()) return off;
  for (Seat& seat : seats_) {
    if (closed.ok() && seat.image->is_served()) seat.image->OnCleanStop();
  }
  if (!closed.ok() && !state_.faults_expected) state_.Violate(closed);
  // Writeback in flight still ends, as it does when a device is closed.
  cache_ = nullptr;
  size_t pending = cache_device().pending();
  for (Seat& seat : seats_) {
    seat.image->OnGone();
    pending += seat.image->disk().pending();
  }
  if (pending > 0) {
    state_.Violate(
        absl::InternalError("I/O in flight after the cache is gone"));
  }
  SwitchOff();
  cache_device().Resume();
  for (Seat& seat : seats_) seat.image->disk().Resume();
  RETURN_IF_ERROR(status());
  return closed;
}

void Machine::SwitchOff() {
  state_.going_down = true;
  cache_device().Stop();
  for (Seat& seat : seats_) seat.image->disk().Stop();
  // A completion may submit more, which fails at once.
  for (int i = 0; i < kPatience; ++i) {
    bool completed = cache_device().Step();
    for (Seat& seat : seats_) completed |= seat.image->disk().Step();
    if (!completed) break;
  }
  cache_ = nullptr;
  cache_device().CompletePending();
  for (Seat& seat : seats_) {
    seat.image->disk().CompletePending();
    seat.image->OnGone();
  }
  state_.going_down = false;
}

void Machine::Crash() {
  VLOG(1) << "the daemon dies";
  SwitchOff();
  cache_device().Restart();
  for (Seat& seat : seats_) seat.image->disk().Restart();
}

void Machine::CutPower(uint64_t seed) {
  VLOG(1) << "power cut";
  SwitchOff();
  Random random(seed);
  cache_device().CutPower(random);
  for (Seat& seat : seats_) {
    seat.image->disk().CutPower(random);
    seat.image->OnPowerCut();
  }
}

void Machine::JudgeBacking(uint64_t seed) {
  for (Seat& seat : seats_) seat.image->JudgeBacking(seed);
}

void Machine::Pump() {
  Random& random = state_.random;
  switch (random.Below(8)) {
    case 0:
    case 1:
    case 2:
      if (seats_[random.Below(seats_.size())].image->disk().Step()) return;
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

bool Machine::Round() {
  bool progress = cache_device().Step();
  for (Seat& seat : seats_) progress |= seat.image->disk().Step();
  progress |= cache_->Step();
  clock_.Advance(absl::Milliseconds(progress ? 1 : 10));
  return progress;
}

size_t Machine::in_flight() const {
  size_t count = 0;
  for (const Seat& seat : seats_) count += seat.image->in_flight();
  return count;
}

absl::Status Machine::Settle() {
  for (Seat& seat : seats_) {
    seat.image->disk().set_hanging(false);
    seat.image->disk().set_full(false);
  }
  int idle = 0;
  for (int round = 0; in_flight() > 0 && round < kRounds; ++round) {
    RETURN_IF_ERROR(status());
    if (stopped()) break;
    idle = Round() ? 0 : idle + 1;
    if (idle > kPatience) break;
  }
  for (Seat& seat : seats_) {
    seat.image->ForgetAnswered();
    if (seat.image->in_flight() > 0 && !stopped()) {
      state_.Violate(absl::DeadlineExceededError(
          absl::StrCat("never answered: ", seat.image->DescribeWaiting())));
    }
  }
  return status();
}

void Machine::RunIdle() {
  int idle = 0;
  for (int round = 0; idle < 20 && round < kRounds; ++round) {
    if (stopped()) return;
    idle = Round() ? 0 : idle + 1;
    clock_.Advance(absl::Milliseconds(100));
  }
  for (Seat& seat : seats_) seat.image->ForgetAnswered();
}

}  // namespace pcachefs
