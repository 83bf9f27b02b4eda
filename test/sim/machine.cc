#include "test/sim/machine.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "meta/records.h"
#include "meta/status_macros.h"

namespace pcachefs {

Machine::Machine(const Options& options)
    : SimulatedMachine(options.seed), options_(options) {
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
    : SimulatedMachine(options.seed, other), options_(options) {
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
  std::vector<JudgedImage*> images;
  for (Seat& seat : seats_) images.push_back(seat.image.get());
  SimulatedMachine::Connect(std::move(images));
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
  absl::Status failed = Open(options_.cache_options);
  if (failed.ok()) {
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

void Machine::JudgeBacking(uint64_t seed) {
  for (Seat& seat : seats_) seat.image->JudgeBacking(seed);
}

absl::Status Machine::Settle() {
  for (Seat& seat : seats_) {
    seat.image->disk().set_hanging(false);
    seat.image->disk().set_full(false);
  }
  return SimulatedMachine::Settle();
}

}  // namespace pcachefs
