#include "fuse/fuse_server.h"

#include <glog/logging.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fuse/capabilities.h"
#include "fuse/connection.h"
#include "fuse/failover_channels.h"
#include "fuse/libfuse.h"
#include "fuse/transport.h"
#include "fuse/unmount.h"
#include "fuse/work_thread.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

// Only interrupts the system call that a thread waits in.
constexpr int kWakeSignal = SIGUSR1;

int DefaultThreads() {
  // Two even on one processor: while one copies, another one can take a
  // request. More than a few only contend for the kernel's queue.
  const int processors = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(processors, 2, 8);
}

std::vector<std::string> SessionArguments(const FuseServerOptions& options,
                                          Transport transport) {
  std::string words = "fsname=pcachefs,subtype=pcachefs,default_permissions";
  if (options.allow_other) words += ",allow_other";
  if (transport == Transport::kIoUring) {
    absl::StrAppend(&words, ",io_uring,io_uring_q_depth=", options.ring_depth);
  }
  return {"pcachefs", "-o", words};
}

void InstallWakeSignal() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  CHECK_EQ(sigaction(kWakeSignal, &action, nullptr), 0);
}

void Initialize(void* /*user_data*/, fuse_conn_info* info) {
  RequestCapabilities(info);
}

absl::Status RunSessionLoop(fuse_session* session, int threads) {
  fuse_loop_config* config = fuse_loop_cfg_create();
  const auto destroy =
      absl::MakeCleanup([config] { fuse_loop_cfg_destroy(config); });
  fuse_loop_cfg_set_clone_fd(config, 1);  // a queue of its own per thread
  fuse_loop_cfg_set_max_threads(config, threads);
  const int result = fuse_session_loop_mt(session, config);
  if (result >= 0) return absl::OkStatus();
  return absl::ErrnoToStatus(-result, "FUSE session");
}

}  // namespace

FuseServer::FuseServer(const FuseServerOptions& options, TransportChoice choice,
                       bool is_under_failover, void* file_system)
    : options_(options),
      choice_(std::move(choice)),
      is_under_failover_(is_under_failover) {
  if (options_.threads == 0) options_.threads = DefaultThreads();
  connection_.file_system = file_system;
  if (choice_.transport == Transport::kIoUring && !is_under_failover) {
    connection_.ring_replier = std::make_unique<WorkThread>();
  }
}

absl::StatusOr<std::unique_ptr<FuseServer>> FuseServer::Mount(
    const FuseServerOptions& options, const fuse_lowlevel_ops& operations,
    void* file_system, FailoverOptions failover) {
  // Of a mount that is there everything has been decided.
  const TransportFacts facts = failover.descriptors.empty()
                                   ? FindTransportFacts()
                                   : TransportFacts{true, true, true};
  ASSIGN_OR_RETURN(
      TransportChoice choice,
      ChooseTransport(options.transport, facts,
                      failover.state == nullptr ? FailoverKind::kNone
                                                : failover.kind));
  std::unique_ptr<FuseServer> server(
      new FuseServer(options, std::move(choice), failover.state != nullptr,
                     file_system));
  fuse_lowlevel_ops all_operations = operations;
  all_operations.init = Initialize;
  RETURN_IF_ERROR(server->MountSession(all_operations, std::move(failover)));
  return server;
}

absl::Status FuseServer::MountSession(const fuse_lowlevel_ops& operations,
                                      FailoverOptions failover) {
  if (failover.state == nullptr) {
    ASSIGN_OR_RETURN(session_, MakeSession(operations, options_.mountpoint));
    return absl::OkStatus();
  }
  is_taken_over_ = !failover.descriptors.empty();
  if (choice_.transport == Transport::kIoUring) {
    failover.ring_depth = options_.ring_depth;
  }
  ASSIGN_OR_RETURN(
      channels_,
      FailoverChannels::Open(options_.mountpoint, options_.threads, failover,
                             connection_,
                             [this, operations](const std::string& place) {
                               return MakeSession(operations, place);
                             }));
  return absl::OkStatus();
}

absl::StatusOr<fuse_session*> FuseServer::MakeSession(
    const fuse_lowlevel_ops& operations, const std::string& place) {
  // Rings that can be handed over are none of libfuse's.
  std::vector<std::string> words = SessionArguments(
      options_, is_under_failover_ ? Transport::kDevFuse : choice_.transport);
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  fuse_args arguments =
      FUSE_ARGS_INIT(static_cast<int>(pointers.size()), pointers.data());
  fuse_session* const session = fuse_session_new(
      &arguments, &operations, sizeof(operations), &connection_);
  fuse_opt_free_args(&arguments);
  if (session == nullptr) {
    return absl::InternalError("cannot make a FUSE session");
  }
  if (fuse_session_mount(session, place.c_str()) != 0) {
    const int error = errno != 0 ? errno : EIO;
    fuse_session_destroy(session);
    return absl::ErrnoToStatus(
        error, absl::StrCat("cannot mount on ", options_.mountpoint));
  }
  is_mounted_ = true;
  return session;
}

FuseServer::~FuseServer() {
  // Who took a mount over and could not serve it leaves it to the next one.
  if (is_mounted_ && !is_taken_over_) Unmount();
  if (session_ != nullptr) fuse_session_destroy(session_);
}

void FuseServer::Unmount() {
  is_mounted_ = false;
  if (session_ != nullptr) return fuse_session_unmount(session_);
  if (channels_ != nullptr && channels_->is_unmounted()) return;
  const absl::Status unmounted = UnmountLazily(options_.mountpoint);
  LOG_IF(WARNING, !unmounted.ok()) << unmounted.message();
}

absl::Status FuseServer::Serve(absl::AnyInvocable<void()> when_ready) {
  InstallWakeSignal();
  is_taken_over_ = false;
  loop_thread_ = pthread_self();
  std::thread ender([this] { EndLoop(); });
  std::thread probe([this, when_ready = std::move(when_ready)]() mutable {
    Probe(std::move(when_ready));
  });

  absl::Status status = channels_ != nullptr
                            ? channels_->Run()
                            : RunSessionLoop(session_, options_.threads);
  has_loop_ended_ = true;
  Stop();
  ender.join();
  if (channels_ != nullptr && channels_->is_unmounted()) {
    is_handing_over_ = false;
  }
  // From here on nobody answers: unless somebody else will, the mount must go,
  // or those who ask it wait.
  if (!is_handing_over_) Unmount();
  probe.join();

  const bool are_answered = connection_.in_flight.WaitUntilNone(
      is_handing_over_ ? options_.hand_over_timeout : options_.stop_timeout);
  if (is_handing_over_) channels_->FinishHandOver(options_.mountpoint);
  if (!are_answered) {
    return absl::DeadlineExceededError(
        absl::StrCat(connection_.in_flight.count(), " requests are stuck"));
  }
  // Unmounted from outside is as good an end as any.
  return status;
}

void FuseServer::Stop() {
  if (!is_stop_asked_.exchange(true)) must_stop_.Notify();
}

void FuseServer::HandOver() {
  is_handing_over_ = true;
  Stop();
}

void FuseServer::EndLoop() {
  must_stop_.WaitForNotification();
  if (has_loop_ended_) return;
  if (is_handing_over_) return channels_->End();
  connection_.is_stopping = true;
  // The ring's memory goes with the loop, so its requests must be over before.
  LOG_IF(WARNING, !connection_.in_flight.WaitUntilNone(options_.stop_timeout))
      << connection_.in_flight.count()
      << " requests are stuck; stopping anyway";
  if (channels_ != nullptr) return channels_->End();
  // libfuse 3.14 waits for a signal here, and one that comes before it waits is
  // lost: hence again and again.
  while (!has_loop_ended_) {
    fuse_session_exit(session_);
    pthread_kill(loop_thread_, kWakeSignal);
    absl::SleepFor(absl::Milliseconds(10));
  }
}

void FuseServer::Probe(absl::AnyInvocable<void()> when_ready) {
  constexpr int kTries = 100;  // 1 s for the rings to come up
  const std::string path = options_.mountpoint + "/.pcache-probe";
  for (int i = 0; i < kTries && !is_stop_asked_; ++i) {
    struct stat attributes;
    // Answered with ENOENT, which the kernel does not remember.
    const int result = stat(path.c_str(), &attributes);
    if (result != 0 && errno != ENOENT) return;
    if (connection_.has_seen_ring || choice_.transport != Transport::kIoUring) {
      break;
    }
    absl::SleepFor(absl::Milliseconds(10));
  }
  if (!is_stop_asked_) when_ready();
}

std::string FuseServer::transport_reason() const {
  if (transport() == choice_.transport) return choice_.reason;
  return absl::StrCat("fell back: the kernel did not take up ",
                      Name(choice_.transport));
}

}  // namespace pcachefs
