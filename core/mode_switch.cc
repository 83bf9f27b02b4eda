#include "core/mode_switch.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/around_path.h"
#include "core/mutation.h"
#include "core/writeback.h"
#include "glog/logging.h"

namespace pcachefs {

void ModeSwitch::BeginService() {
  if (core_.read_only() || !GoesAround(core_.settings().mode())) return;
  core_.gate().Close();
  absl::MutexLock lock(&mutex_);
  EnterLocked(Phase::kFlushing);
}

void ModeSwitch::Start(CacheMode mode, Done done) {
  absl::Status refused;
  bool begun = false;
  if (core_.read_only()) {
    refused = absl::FailedPreconditionError(
        absl::StrCat("image ", core_.name(), ": opened read-only"));
  } else if (core_.read_only_backing() && GoesAround(mode)) {
    refused = absl::FailedPreconditionError(absl::StrCat(
        "image ", core_.name(), ": cache_mode: got ", Name(mode),
        ", want writeback or writeonly: the backing device is read-only"));
  } else {
    absl::MutexLock lock(&mutex_);
    const CacheMode old_mode = core_.settings().mode();
    if (next_) {
      refused = absl::FailedPreconditionError(
          absl::StrCat("image ", core_.name(), ": cache_mode: a switch to ",
                       Name(*next_), " is going on; wait for its end"));
    } else if (mode != old_mode) {
      next_ = mode;
      done_ = std::move(done);
      begun = true;
      if (phase_ != Phase::kIdle) {
        // The flush at the start of service is what a switch would do too.
      } else if (GoesAround(mode) == GoesAround(old_mode) ||
                 Planted(Mutation::kSwitchWithoutDrain)) {
        EnterLocked(Phase::kStoring);
      } else {
        EnterLocked(GoesAround(mode) ? Phase::kDraining : Phase::kClosing);
      }
    }
  }
  if (!begun) return done(std::move(refused));
  core_.Kick();
}

std::optional<CacheMode> ModeSwitch::next_mode() {
  absl::MutexLock lock(&mutex_);
  return next_;
}

bool ModeSwitch::Step() {
  Phase phase = Phase::kIdle;
  bool begins = false;
  std::optional<absl::Status> result;
  {
    absl::MutexLock lock(&mutex_);
    phase = phase_;
    if (phase == Phase::kIdle) return false;
    begins = !std::exchange(begun_, true);
    result = std::exchange(result_, std::nullopt);
  }
  if (begins) {
    Begin(phase);
    return true;
  }
  if (phase == Phase::kClosing && core_.gate().is_empty()) {
    result = absl::OkStatus();
  }
  if (!result) return false;
  if (result->ok()) {
    Advance(phase);
  } else {
    End(*result);
  }
  return true;
}

void ModeSwitch::Begin(Phase phase) {
  switch (phase) {
    case Phase::kIdle:
      break;
    case Phase::kDraining:
    case Phase::kDrainingRest:
      core_.writeback().Drain(
          [this](absl::Status status) { OnResult(std::move(status)); });
      break;
    case Phase::kClosing:
      core_.gate().Close();
      break;
    case Phase::kFlushing:
      core_.around_path().FlushBacking([this](absl::Status status) {
        if (!status.ok()) core_.around_path().NoteFlushFailed();
        OnResult(std::move(status));
      });
      break;
    case Phase::kStoring: {
      const std::optional<CacheMode> next = next_mode();
      if (!next) return;  // abandoned
      OnResult(core_.ChangeRecord([&](ImageRecord& record) {
        record.mode = *next;
        return absl::OkStatus();
      }));
      break;
    }
  }
}

void ModeSwitch::Advance(Phase phase) {
  const bool around = GoesAround(core_.settings().mode());
  {
    absl::MutexLock lock(&mutex_);
    if (phase_ != phase) return;  // abandoned
    switch (phase) {
      case Phase::kDraining:
        return EnterLocked(Phase::kClosing);
      case Phase::kClosing:
        return EnterLocked(around ? Phase::kFlushing : Phase::kDrainingRest);
      case Phase::kDrainingRest:
        return EnterLocked(Phase::kStoring);
      case Phase::kFlushing:
        if (next_) return EnterLocked(Phase::kStoring);
        break;  // the start of service
      case Phase::kStoring:
      case Phase::kIdle:
        break;
    }
  }
  End(absl::OkStatus());
}

void ModeSwitch::End(const absl::Status& status) {
  Done done;
  {
    absl::MutexLock lock(&mutex_);
    if (phase_ == Phase::kIdle) return;
    if (status.ok() && next_) {
      LOG(INFO) << "image " << core_.name() << ": mode is " << Name(*next_);
    } else if (!status.ok()) {
      LOG(ERROR) << "image " << core_.name() << ": "
                 << (next_ ? absl::StrCat("no switch to mode ", Name(*next_))
                           : std::string("flush of the backing device"))
                 << ": " << status;
    }
    phase_ = Phase::kIdle;
    next_.reset();
    done = std::exchange(done_, nullptr);
  }
  core_.gate().Open();
  core_.Kick();
  if (done != nullptr) done(status);
}

void ModeSwitch::Abandon(const absl::Status& status) {
  Done done;
  {
    absl::MutexLock lock(&mutex_);
    phase_ = Phase::kIdle;
    next_.reset();
    done = std::exchange(done_, nullptr);
  }
  if (done != nullptr) done(status);
}

void ModeSwitch::EnterLocked(Phase phase) {
  phase_ = phase;
  begun_ = false;
  result_.reset();
}

void ModeSwitch::OnResult(absl::Status status) {
  {
    absl::MutexLock lock(&mutex_);
    result_ = std::move(status);
  }
  core_.Kick();
}

}  // namespace pcachefs
