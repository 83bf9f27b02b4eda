// The planned hand-over of a mount to another program: docs/failover.md,
// "Upgrade".

#include <glog/logging.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "fuse/failover_state.h"
#include "iobackend/monotonic_time.h"
#include "tools/daemon_process.h"
#include "tools/supervisor_messages.h"
#include "tools/supervisor_process.h"

namespace pcachefs {
namespace {

// To take over may take a long replay.
constexpr absl::Duration kHelloTime = absl::Seconds(20);
constexpr absl::Duration kReleaseTime = absl::Seconds(20);
constexpr absl::Duration kTakeOverTime = absl::Minutes(2);

// It will have all that the daemon has given up.
bool IsTrusted(const Program& program) {
  struct stat attributes;
  return fstat(program.fd(), &attributes) == 0 &&
         (attributes.st_uid == 0 || attributes.st_uid == geteuid()) &&
         (attributes.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

}  // namespace

void Supervisor::BeginUpgrade(const std::string& path) {
  if (step_ != UpgradeStep::kNone || is_stopping_) return;
  absl::StatusOr<Program> program = Program::Open(path);
  if (!program.ok()) {
    return FailUpgrade(std::string(program.status().message()));
  }
  if (!IsTrusted(*program)) {
    return FailUpgrade(absl::StrCat(
        path, ": may be changed by others; want a file of root or of our own "
        "user, writable by its owner only"));
  }
  next_program_ = *std::move(program);
  absl::StatusOr<DaemonProcess> standby =
      StartDaemon(*next_program_, /*is_standby=*/true);
  if (!standby.ok()) {
    return FailUpgrade(std::string(standby.status().message()));
  }
  standby_ = *std::move(standby);
  step_ = UpgradeStep::kStarting;
  deadline_ = MonotonicNow() + kHelloTime;
}

void Supervisor::HandleHello(DaemonProcess& process, uint64_t protocol) {
  if (step_ != UpgradeStep::kStarting || &process != &standby_) return;
  if (protocol != kSupervisorProtocol) {
    process.failure = "it speaks another protocol";
    return process.Signal(SIGKILL);
  }
  step_ = UpgradeStep::kReleasing;
  deadline_ = MonotonicNow() + kReleaseTime;
  state_->NoteGone();
  SendSupervisorMessage(daemon_.link(), SupervisorWord::kHandOver);
}

void Supervisor::LetStandbyStart() {
  step_ = UpgradeStep::kTakingOver;
  deadline_ = MonotonicNow() + kTakeOverTime;
  SendSupervisorMessage(standby_.link(), SupervisorWord::kStart);
}

void Supervisor::FinishUpgrade() {
  daemon_ = std::move(standby_);
  standby_ = DaemonProcess();
  program_ = *std::move(next_program_);
  next_program_.reset();
  step_ = UpgradeStep::kNone;
  deadline_ = absl::InfiniteFuture();
  ++state_->shared().counts.upgrades;
  state_->shared().upgrade.phase = SharedUpgrade::kDone;
  RefreshSpare();
}

void Supervisor::HandleStandbyDeath() {
  const std::string how = standby_.Reap();
  if (standby_.has_ended) {  // with the mount
    return End(standby_.exit_code);
  }
  const std::string why =
      !standby_.failure.empty()
          ? standby_.failure
          : absl::StrCat("the new program was ", how, " at its start");
  const UpgradeStep step = step_;
  FailUpgrade(why);
  if (step == UpgradeStep::kTakingOver && state_->HasLostRequests()) {
    return EndWithDaemon(how);
  }
  // An old one that is about to end is succeeded when it has.
  if (step == UpgradeStep::kTakingOver && !is_stopping_) StartSuccessor();
}

void Supervisor::FailUpgrade(const std::string& why) {
  LOG(ERROR) << "upgrade: " << why;
  SharedUpgrade& shared = state_->shared().upgrade;
  std::memset(shared.message, 0, sizeof(shared.message));
  why.copy(shared.message, sizeof(shared.message) - 1);
  shared.phase = SharedUpgrade::kFailed;
  standby_ = DaemonProcess();
  next_program_.reset();
  step_ = UpgradeStep::kNone;
  deadline_ = absl::InfiniteFuture();
}

void Supervisor::HandleDeadline() {
  deadline_ = absl::InfiniteFuture();
  if (step_ == UpgradeStep::kReleasing) {
    // As good as a crash: the standby replays.
    return daemon_.Signal(SIGKILL);
  }
  standby_.failure = "the new program took too long";
  standby_.Signal(SIGKILL);
}

}  // namespace pcachefs
