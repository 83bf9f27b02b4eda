#include "tools/supervisor.h"

#include <glog/logging.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "fuse/failover_state.h"
#include "fuse/process_protection.h"
#include "fuse/unmount.h"
#include "iobackend/monotonic_time.h"
#include "meta/status_macros.h"
#include "tools/daemon_process.h"
#include "tools/gflags_exit.h"
#include "tools/supervisor_link.h"
#include "tools/supervisor_messages.h"
#include "tools/supervisor_process.h"

namespace pcachefs {
namespace {

constexpr char kStoredState[] = "pcachefs-state";
constexpr char kStoredChannel[] = "pcachefs-fuse";

// A daemon that served shorter than this before it died counts as one that
// could not start: the next one waits, longer each time.
constexpr absl::Duration kShortLife = absl::Milliseconds(200);
constexpr absl::Duration kFirstDelay = absl::Milliseconds(5);
constexpr absl::Duration kLongestDelay = absl::Seconds(5);
constexpr int kFreeFailures = 3;
// Of a mount that nobody was told of yet; more than one request can cause.
constexpr int kMaxFirstFailures = 10;

}  // namespace

absl::StatusOr<int> Supervisor::Run() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    sigaddset(&signals, number);
  }
  ASSIGN_OR_RETURN(Program self, Program::Open("/proc/self/exe"));
  program_ = std::move(self);
  signals_ = signalfd(-1, &signals, SFD_CLOEXEC);
  if (signals_ < 0) return absl::ErrnoToStatus(errno, "signalfd");
  // Who may attach to us could take the descriptors out of here.
  prctl(PR_SET_DUMPABLE, 0);
  ProtectProcess();
  RETURN_IF_ERROR(TakeStored());
  state_->shared().counts.supervisor_pid = getpid();
  if (has_served_) {
    manager_.Ready();
    StartSuccessor();
  } else {
    ASSIGN_OR_RETURN(daemon_, StartDaemon(*program_, /*is_standby=*/false));
  }
  while (!exit_code_) Wait();
  return *exit_code_;
}

absl::Status Supervisor::TakeStored() {
  int state = -1;
  for (const StoredDescriptor& stored : TakeStoredDescriptors()) {
    if (stored.name == kStoredState && state < 0) {
      state = stored.fd;
    } else if (stored.name == kStoredChannel) {
      channels_.push_back(stored.fd);
    } else {
      close(stored.fd);
    }
  }
  if (state >= 0 && !channels_.empty()) {
    ASSIGN_OR_RETURN(state_, FailoverState::Open(state));
    if (state_->HasLostRequests()) {
      Unmount();
      manager_.RemoveStored(kStoredChannel);
      manager_.RemoveStored(kStoredState);
      return absl::FailedPreconditionError(
          "failover: the daemon was lost with the supervisor, and over "
          "io_uring its requests with it; start again");
    }
    state_->NoteGone();
    has_served_ = true;
    LOG(INFO) << "took over the mount " << state_->shared().mountpoint;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(state_, FailoverState::Create());
  if (options_.mountpoint.size() >= SharedFailoverState::kMaxPath) {
    return absl::InvalidArgumentError("mountpoint: its path is too long");
  }
  options_.mountpoint.copy(state_->shared().mountpoint,
                           SharedFailoverState::kMaxPath - 1);
  return absl::OkStatus();
}

absl::StatusOr<DaemonProcess> Supervisor::StartDaemon(const Program& program,
                                                      bool is_standby) {
  std::vector<std::string> arguments = {"pcachefs"};
  arguments.insert(arguments.end(), options_.arguments.begin(),
                   options_.arguments.end());
  arguments.push_back(state_->shared().mountpoint);
  SupervisorPassage passage;
  passage.state = state_->fd();
  passage.is_standby = is_standby;
  passage.channels = channels_;
  passage.has_manager = manager_.is_present();
  passage.has_descriptor_store = manager_.is_present();
  if (manager_.watchdog() != absl::InfiniteDuration()) {
    passage.watchdog_us = absl::ToInt64Microseconds(manager_.watchdog());
  }
  return DaemonProcess::Start(program, arguments, passage);
}

void Supervisor::StartSuccessor() {
  next_start_ = absl::InfiniteFuture();
  absl::StatusOr<DaemonProcess> started =
      StartDaemon(*program_, /*is_standby=*/false);
  if (started.ok()) {
    daemon_ = *std::move(started);
    RefreshSpare();
    return;
  }
  LOG(ERROR) << "cannot start a successor: " << started.status().message();
  next_start_ = MonotonicNow() + kLongestDelay;
}

void Supervisor::Wait() {
  pollfd polled[] = {{signals_, POLLIN, 0},
                     {daemon_.link(), POLLIN, 0},
                     {daemon_.pid_fd(), POLLIN, 0},
                     {standby_.link(), POLLIN, 0},
                     {standby_.pid_fd(), POLLIN, 0}};
  const absl::Time until = std::min(next_start_, deadline_);
  int timeout = -1;
  if (until != absl::InfiniteFuture()) {
    timeout = static_cast<int>(absl::ToInt64Milliseconds(
        std::max(until - MonotonicNow(), absl::ZeroDuration()) +
        absl::Milliseconds(1)));
  }
  if (poll(polled, 5, timeout) < 0) return;  // interrupted
  // Last words first: they tell a death from an end.
  if (polled[1].revents != 0) return HandleMessage(daemon_);
  if (polled[3].revents != 0) return HandleMessage(standby_);
  if (polled[2].revents != 0) return HandleDeath();
  if (polled[4].revents != 0) return HandleStandbyDeath();
  if (polled[0].revents != 0) return HandleSignal();
  if (MonotonicNow() >= next_start_) return StartSuccessor();
  if (MonotonicNow() >= deadline_) HandleDeadline();
}

void Supervisor::HandleSignal() {
  signalfd_siginfo information;
  if (read(signals_, &information, sizeof(information)) !=
          static_cast<ssize_t>(sizeof(information)) ||
      information.ssi_signo == SIGHUP) {
    return;
  }
  is_stopping_ = true;
  if (step_ == UpgradeStep::kTakingOver) return standby_.Signal(SIGTERM);
  if (step_ != UpgradeStep::kNone) standby_.Signal(SIGKILL);
  if (daemon_) return daemon_.Signal(SIGTERM);
  // Nobody is there to answer what waits.
  LOG(INFO) << "stopping while no daemon serves";
  Unmount();
  End(kExitFailure);
}

void Supervisor::Unmount() {
  const absl::Status unmounted = UnmountLazily(state_->shared().mountpoint);
  LOG_IF(ERROR, !unmounted.ok()) << unmounted.message();
}

void Supervisor::HandleMessage(DaemonProcess& process) {
  const auto message = ReceiveSupervisorMessage(process.link());
  if (!message) return process.CloseLink();
  switch (message->word) {
    case SupervisorWord::kHold: {
      channels_ = message->descriptors;
      const int state[] = {state_->fd()};
      manager_.Store(kStoredState, state);
      manager_.Store(kStoredChannel, channels_);
      break;
    }
    case SupervisorWord::kReady:
      return HandleReady(process);
    case SupervisorWord::kWarn:
      if (!has_served_) report_.Warn(message->text);
      break;
    case SupervisorWord::kFailed:
      process.failure = message->text;
      break;
    case SupervisorWord::kNotify:
      if (absl::StartsWith(message->text, "READY=1")) {
        manager_.Ready();
      } else {
        manager_.Send(message->text);
      }
      break;
    case SupervisorWord::kUpgrade:
      return BeginUpgrade(message->text);
    case SupervisorWord::kHello:
      return HandleHello(process, message->number);
    case SupervisorWord::kEnded:
      process.has_ended = true;
      process.exit_code = static_cast<int>(message->number);
      break;
    default:
      LOG(WARNING) << "the daemon says what is not known: "
                   << static_cast<uint32_t>(message->word);
  }
}

void Supervisor::HandleReady(DaemonProcess& process) {
  process.is_ready = true;
  ready_time_ = MonotonicNow();
  if (&process == &standby_) return FinishUpgrade();
  has_served_ = true;
  report_.Ready();
  RefreshSpare();
}

void Supervisor::HandleDeath() {
  const bool was_ready = daemon_.is_ready;
  const std::string how = daemon_.Reap();
  DaemonProcess dead = std::move(daemon_);
  daemon_ = DaemonProcess();
  if (step_ == UpgradeStep::kReleasing) {
    if (dead.has_ended) {
      standby_.Signal(SIGKILL);
      return End(dead.exit_code);
    }
    if (state_->HasLostRequests()) {
      standby_.Signal(SIGKILL);
      return EndWithDaemon(how);
    }
    // Having released the cache or not: the standby replays.
    return LetStandbyStart();
  }
  if (step_ == UpgradeStep::kStarting) {
    standby_.Signal(SIGKILL);
    standby_.Reap();
  }
  if (state_->shared().upgrade.phase == SharedUpgrade::kRunning &&
      step_ != UpgradeStep::kTakingOver) {
    FailUpgrade("the daemon died before the hand-over");
  }
  // Once it is mounted others may use it, before we hear that it is ready.
  if (!has_served_ && (channels_.empty() || !dead.failure.empty() ||
                       failures_ >= kMaxFirstFailures)) {
    // One that could say why has unmounted. Nobody needs this mount yet.
    if (!channels_.empty() && dead.failure.empty()) Unmount();
    report_.Failed(absl::UnknownError(
        !dead.failure.empty()
            ? dead.failure
            : absl::StrCat("the daemon was ", how, " at its start")));
    return End(dead.exit_code != 0 ? dead.exit_code : kExitFailure);
  }
  if (dead.has_ended) return End(dead.exit_code);
  if (is_stopping_) {
    Unmount();
    return End(kExitFailure);
  }
  if (state_->HasLostRequests()) return EndWithDaemon(how);
  state_->NoteGone();
  ++state_->shared().counts.restarts;
  const bool was_long = was_ready && MonotonicNow() - ready_time_ > kShortLife;
  failures_ = was_long ? 0 : failures_ + 1;
  LOG(ERROR) << "the daemon, pid " << dead.pid() << ", was " << how
             << (dead.failure.empty() ? "" : ": ") << dead.failure
             << "; starting a successor";
  if (failures_ <= kFreeFailures) return StartSuccessor();
  next_start_ =
      MonotonicNow() +
      std::min(kLongestDelay,
               kFirstDelay * (1 << std::min(failures_ - kFreeFailures, 12)));
}

void Supervisor::EndWithDaemon(const std::string& how) {
  const absl::Status status = absl::AbortedError(absl::StrCat(
      "the daemon was ", how,
      "; over io_uring its requests are lost with it: unmounting"));
  LOG(ERROR) << status.message();
  Unmount();
  if (!has_served_) report_.Failed(status);
  End(kExitFailure);
}

void Supervisor::End(int exit_code) {
  DismissSpare();
  manager_.RemoveStored(kStoredChannel);
  manager_.RemoveStored(kStoredState);
  exit_code_ = exit_code;
}

// --- The spare ---

void Supervisor::DismissSpare() {
  if (spare_ <= 0) return;
  kill(spare_, SIGKILL);
  while (waitpid(spare_, nullptr, 0) < 0 && errno == EINTR) {
  }
  spare_ = -1;
}

void Supervisor::RefreshSpare() {
  // Under a service manager its store is the spare.
  if (manager_.is_present() || !has_served_) return;
  const int self = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
  const pid_t pid = fork();
  if (pid == 0) return BeSpare(self);
  close(self);
  PLOG_IF(WARNING, pid < 0) << "no spare supervisor";
  DismissSpare();  // the one that knows less
  spare_ = pid;
}

// Returns when the primary is dead, whose place this process then has. What it
// holds is a copy of what the primary held when the daemon was started last.
void Supervisor::BeSpare(int primary) {
  prctl(PR_SET_DUMPABLE, 0);
  ProtectProcess();  // which forks do not inherit
  spare_ = -1;
  pollfd polled = {primary, POLLIN, 0};
  while (poll(&polled, 1, -1) < 0 && errno == EINTR) {
  }
  close(primary);
  // What the primary alone knew of an upgrade is lost with it.
  if (state_->shared().upgrade.phase == SharedUpgrade::kRunning) {
    FailUpgrade("the supervisor died meanwhile");
  }
  state_->shared().counts.supervisor_pid = getpid();
  LOG(ERROR) << "the supervisor has died; its spare goes on";
  RefreshSpare();
}

bool KernelKeepsRequests(absl::string_view release) {
  int major = 0, minor = 0;
  return sscanf(std::string(release).c_str(), "%d.%d", &major, &minor) == 2 &&
         (major > 6 || (major == 6 && minor >= 9));
}

int Supervise(const SupervisorOptions& options, StartReport& report) {
  Supervisor supervisor(options, report);
  const absl::StatusOr<int> result = supervisor.Run();
  if (result.ok()) return *result;
  report.Failed(result.status());
  LOG(ERROR) << result.status().message();
  return kExitFailure;
}

}  // namespace pcachefs
