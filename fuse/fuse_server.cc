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
#include "fuse/libfuse.h"
#include "fuse/transport.h"
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
                       void* file_system)
    : options_(options), choice_(std::move(choice)) {
  if (options_.threads == 0) options_.threads = DefaultThreads();
  connection_.file_system = file_system;
  if (choice_.transport == Transport::kIoUring) {
    connection_.ring_replier = std::make_unique<WorkThread>();
  }
}

absl::StatusOr<std::unique_ptr<FuseServer>> FuseServer::Mount(
    const FuseServerOptions& options, const fuse_lowlevel_ops& operations,
    void* file_system) {
  ASSIGN_OR_RETURN(TransportChoice choice,
                   ChooseTransport(options.transport, FindTransportFacts()));
  std::unique_ptr<FuseServer> server(
      new FuseServer(options, std::move(choice), file_system));
  RETURN_IF_ERROR(server->MountSession(operations));
  return server;
}

absl::Status FuseServer::MountSession(fuse_lowlevel_ops operations) {
  operations.init = Initialize;
  std::vector<std::string> words =
      SessionArguments(options_, choice_.transport);
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  fuse_args arguments =
      FUSE_ARGS_INIT(static_cast<int>(pointers.size()), pointers.data());
  session_ = fuse_session_new(&arguments, &operations, sizeof(operations),
                              &connection_);
  fuse_opt_free_args(&arguments);
  if (session_ == nullptr) {
    return absl::InternalError("cannot make a FUSE session");
  }
  if (fuse_session_mount(session_, options_.mountpoint.c_str()) != 0) {
    return absl::ErrnoToStatus(
        errno != 0 ? errno : EIO,
        absl::StrCat("cannot mount on ", options_.mountpoint));
  }
  is_mounted_ = true;
  return absl::OkStatus();
}

FuseServer::~FuseServer() {
  if (session_ == nullptr) return;
  if (is_mounted_) fuse_session_unmount(session_);
  fuse_session_destroy(session_);
}

absl::Status FuseServer::Serve(absl::AnyInvocable<void()> when_ready) {
  InstallWakeSignal();
  loop_thread_ = pthread_self();
  std::thread ender([this] { EndLoop(); });
  std::thread probe([this, when_ready = std::move(when_ready)]() mutable {
    Probe(std::move(when_ready));
  });

  absl::Status status = RunSessionLoop(session_, options_.threads);
  has_loop_ended_ = true;
  Stop();
  ender.join();
  // From here on nobody answers: the mount must go, or those who ask it wait.
  fuse_session_unmount(session_);
  is_mounted_ = false;
  probe.join();

  if (!connection_.in_flight.WaitUntilNone(options_.stop_timeout)) {
    return absl::DeadlineExceededError(
        absl::StrCat(connection_.in_flight.count(), " requests are stuck"));
  }
  // Unmounted from outside is as good an end as any.
  return status;
}

void FuseServer::Stop() {
  if (!is_stop_asked_.exchange(true)) must_stop_.Notify();
}

void FuseServer::EndLoop() {
  must_stop_.WaitForNotification();
  if (has_loop_ended_) return;
  connection_.is_stopping = true;
  // The ring's memory goes with the loop, so its requests must be over before.
  LOG_IF(WARNING, !connection_.in_flight.WaitUntilNone(options_.stop_timeout))
      << connection_.in_flight.count()
      << " requests are stuck; stopping anyway";
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
