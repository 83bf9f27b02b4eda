#include "tools/serve.h"

#include <glog/logging.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "fuse/failover_channels.h"
#include "fuse/failover_state.h"
#include "fuse/file_system.h"
#include "fuse/fuse_operations.h"
#include "fuse/fuse_server.h"
#include "fuse/kept_images.h"
#include "fuse/metrics_text.h"
#include "fuse/process_protection.h"
#include "fuse/server_facts.h"
#include "fuse/transport.h"
#include "iobackend/monotonic_time.h"
#include "meta/status_macros.h"
#include "tools/gflags_exit.h"
#include "tools/metrics_listener.h"
#include "tools/open_cache.h"
#include "tools/privileges.h"
#include "tools/service_manager.h"
#include "tools/service_reports.h"
#include "tools/settings.h"
#include "tools/signal_watcher.h"
#include "tools/start_report.h"
#include "tools/stop_deadline.h"
#include "tools/supervisor_link.h"
#include "tools/supervisor_messages.h"
#include "tools/system_clock.h"
#include "tools/version.h"

namespace pcachefs {
namespace {

// To commit everything, after which nothing is lost by a crash that is not lost
// by a stop; and to wait for what is on its way to backing devices. Less than
// `pcachectl stop` waits.
constexpr absl::Duration kClosePatience = absl::Seconds(40);
constexpr absl::Duration kEndPatience = absl::Seconds(5);

// The daemon's parts, in the order of their making.
class Daemon {
 public:
  Daemon(const Settings& settings, const ServiceManager& manager,
         StartReport& report, SupervisorLink* link)
      : settings_(settings), manager_(manager), report_(report), link_(link) {}

  absl::Status Run() {
    protection_ = ProtectProcess();
    DropPrivileges();  // before there are threads
    if (link_ != nullptr) RETURN_IF_ERROR(AwaitTurn());
    starting_.emplace(manager_);
    manager_.Status(absl::StrCat("replaying ", settings_.cache));
    ASSIGN_OR_RETURN(opened_, OpenCache(settings_, clock_));
    absl::Cleanup undo = [this] { UndoStart(); };
    RETURN_IF_ERROR(AttachImages(settings_, *opened_.cache, missing_));
    WarnIfVolatile();
    manager_.Status(absl::StrCat("mounting on ", settings_.mountpoint));
    RETURN_IF_ERROR(Mount());
    RETURN_IF_ERROR(ListenForMetrics());

    SignalWatcher signals([this] { BeginStop(); });
    const absl::Status served = server_->Serve([this] { BecomeReady(); });
    if (server_->is_handed_over()) LeaveToSuccessor(served);
    SayEnded(kExitFailure);
    serving_.reset();
    SayStopping();
    if (absl::IsDeadlineExceeded(served)) ExitAtOnce(served);
    if (!is_ready_) {
      return served.ok()
                 ? absl::CancelledError("was stopped before the mount answered")
                 : served;
    }
    std::move(undo).Cancel();
    metrics_.reset();
    deadline_.emplace(kClosePatience, kExitFailure,
                      "the cache is not closed yet, a backing device or the "
                      "cache device hangs");
    const absl::Status closed = opened_.cache->Close();
    const absl::Status status = served.ok() ? closed : served;
    const int exit_code = status.ok() ? kExitOk : kExitFailure;
    SayEnded(exit_code);
    deadline_.reset();
    deadline_.emplace(kEndPatience, exit_code,
                      "a backing device has not answered, everything else is "
                      "done");
    return status;
  }

  bool is_ready() const { return is_ready_; }

 private:
  // The cache may be open elsewhere until then.
  absl::Status AwaitTurn() {
    if (link_->passage().is_standby) RETURN_IF_ERROR(link_->WaitForStart());
    link_->Listen([this] {
      if (is_ready_) server_->HandOver();
    });
    return absl::OkStatus();
  }

  // The mount is gone: whatever happens to this process, nobody succeeds it.
  void SayEnded(int exit_code) {
    if (link_ != nullptr) link_->Say(SupervisorWord::kEnded, exit_code);
  }

  // Without taking anything apart that somebody may wait in: who looks at the
  // mount in this process waits for the successor.
  [[noreturn]] void LeaveToSuccessor(const absl::Status& served) {
    metrics_.reset();  // its address is needed
    const absl::Status closed =
        served.ok() ? opened_.cache->Close() : served;
    LOG_IF(WARNING, !closed.ok())
        << "handing over as after a crash: " << closed.message();
    LOG(INFO) << "handed over";
    google::FlushLogFiles(google::GLOG_INFO);
    _exit(kExitOk);
  }

  // Leaves a known cache as after any stop, and a new one not at all.
  void UndoStart() {
    metrics_.reset();
    server_.reset();  // unmounts, before anybody hears of the failure
    const absl::Status closed = opened_.cache->Close();
    LOG_IF(ERROR, !closed.ok()) << closed.message();
    if (opened_.created) unlink(settings_.cache.c_str());
  }

  void WarnIfVolatile() {
    if (!opened_.device->is_volatile() || settings_.read_only) return;
    report_.Warn(absl::StrCat(
        "cache ", settings_.cache,
        " does not survive the machine: dirty data in it is lost in a reboot"));
  }

  absl::Status Mount() {
    file_system_ = std::make_unique<FileSystem>(
        *opened_.cache, SourceOf(settings_), [this] { return Facts(); },
        [this] { BeginStop(); }, MakeUpgradeCalls());
    FailoverOptions failover;
    if (link_ != nullptr) {
      SharedFailoverState& shared = link_->state().shared();
      kept_images_.emplace(shared.images);
      file_system_->Succeed(*kept_images_, shared.counts.daemons++);
      failover.state = &link_->state();
      failover.kind = settings_.planned_failover ? FailoverKind::kPlanned
                                                 : FailoverKind::kFull;
      failover.descriptors = link_->passage().channels;
      failover.hold = [this](std::span<const int> descriptors) {
        return link_->Hold(descriptors);
      };
      failover.lethal_offset = LethalOffset();
    }
    for (CachedImage* image : opened_.cache->images()) {
      RETURN_IF_ERROR(file_system_->AddImage(*image));
    }
    for (const auto& [name, why] : missing_) {
      file_system_->NoteAbsent(name, why);
    }
    FuseServerOptions options;
    options.mountpoint = settings_.mountpoint;
    options.transport = settings_.transport;
    options.threads = settings_.threads;
    options.allow_other = settings_.allow_other;
    ASSIGN_OR_RETURN(
        server_, FuseServer::Mount(options, FuseOperations(),
                                   file_system_.get(), std::move(failover)));
    return absl::OkStatus();
  }

  UpgradeCalls MakeUpgradeCalls() {
    if (link_ == nullptr) return {};
    return {.prepare = [this](const std::string& binary) {
              return link_->PrepareUpgrade(binary);
            },
            .begin = [this](uint64_t number) { link_->BeginUpgrade(number); },
            .is_done = [this](uint64_t number) {
              return link_->IsUpgradeDone(number);
            }};
  }

  // For tests of what a request does that no daemon survives.
  static std::optional<uint64_t> LethalOffset() {
    const char* const value = getenv("PCACHEFS_TEST_LETHAL_OFFSET");
    uint64_t offset = 0;
    if (value == nullptr || !absl::SimpleAtoi(value, &offset)) {
      return std::nullopt;
    }
    return offset;
  }

  absl::Status ListenForMetrics() {
    if (!settings_.metrics_listen.has_value()) return absl::OkStatus();
    ASSIGN_OR_RETURN(metrics_,
                     MetricsListener::Start(*settings_.metrics_listen, [this] {
                       return MetricsText(file_system_->GetStatus(),
                                          file_system_->GetFacts());
                     }));
    LOG(INFO) << "metrics at " << metrics_->address().ToString();
    return absl::OkStatus();
  }

  void BecomeReady() {
    LOG(INFO) << "serving " << settings_.cache << " at " << settings_.mountpoint
              << " over " << Name(server_->transport()) << " ("
              << server_->transport_reason() << ")";
    is_ready_ = true;
    if (link_ != nullptr) {
      const absl::Duration pause = link_->state().NoteServing();
      LOG_IF(INFO, link_->is_successor()) << "requests waited for " << pause;
      link_->BecomeReady();
    }
    report_.Ready();
    starting_.reset();
    manager_.Ready();
    serving_.emplace(manager_, settings_.mountpoint,
                     [this] { return file_system_->GetStatus(); });
  }

  void BeginStop() {
    SayStopping();
    server_->Stop();
  }

  // Also when it was unmounted and nobody asked.
  void SayStopping() {
    if (is_stopping_.exchange(true)) return;
    manager_.Stopping();
    manager_.Status("stopping; dirty data stays in the cache");
  }

  ServerFacts Facts() {
    return {.version = kVersion,
            .libfuse_version = LibfuseVersion(),
            .liburing_version = LiburingVersion(),
            .mountpoint = settings_.mountpoint,
            .transport = Name(server_->transport()),
            .transport_reason = server_->transport_reason(),
            .threads = server_->threads(),
            .pid = getpid(),
            .uptime_seconds = absl::ToDoubleSeconds(MonotonicNow() - start_),
            .is_io_flusher = protection_.is_io_flusher,
            .is_memory_locked = protection_.is_memory_locked,
            .failover = link_ != nullptr ? link_->Facts() : FailoverFacts{}};
  }

  // Some request cannot be ended, so nothing that it uses can be destroyed. To
  // the cache this is a crash of the daemon: what was acknowledged is there.
  [[noreturn]] void ExitAtOnce(const absl::Status& status) {
    LOG(ERROR) << "stopping without an orderly end: " << status.message();
    google::FlushLogFiles(google::GLOG_INFO);
    _exit(kExitFailure);
  }

  // First, so that it covers the end of all others.
  std::optional<StopDeadline> deadline_;
  const Settings& settings_;
  const ServiceManager& manager_;
  StartReport& report_;
  SupervisorLink* const link_;  // null: no failover
  const absl::Time start_ = MonotonicNow();
  std::atomic<bool> is_ready_ = false;
  std::atomic<bool> is_stopping_ = false;
  std::optional<StartReports> starting_;
  SystemClock clock_;
  ProcessProtection protection_;
  OpenedCache opened_;
  MissingImages missing_;
  std::optional<KeptImages> kept_images_;
  std::unique_ptr<FileSystem> file_system_;
  std::unique_ptr<FuseServer> server_;
  std::unique_ptr<MetricsListener> metrics_;
  std::optional<ServingReports> serving_;
};

ServiceManager FindManager(SupervisorLink* link) {
  if (link == nullptr) return ServiceManager::FromEnvironment();
  const SupervisorPassage& passage = link->passage();
  if (!passage.has_manager) return ServiceManager("", absl::InfiniteDuration());
  return ServiceManager(
      [link](absl::string_view text) {
        link->Say(SupervisorWord::kNotify, 0, text);
        // The service's start is long over: its watchdog runs.
        if (link->is_successor() && absl::StartsWith(text, "EXTEND_TIMEOUT")) {
          link->Say(SupervisorWord::kNotify, 0, "WATCHDOG=1");
        }
      },
      passage.watchdog_us > 0 ? absl::Microseconds(passage.watchdog_us)
                              : absl::InfiniteDuration());
}

// What the cache has recorded since the first start counts, not the command
// line: images were attached, detached and changed in use.
Settings OfSuccessor(Settings settings) {
  settings.cache_size = 0;
  settings.backing.clear();
  settings.max_dirty.reset();
  return settings;
}

}  // namespace

absl::Status Serve(const Settings& wanted, StartReport& report,
                   SupervisorLink* link) {
  const ServiceManager manager = FindManager(link);
  const Settings settings =
      link != nullptr && link->is_successor() ? OfSuccessor(wanted) : wanted;
  Daemon daemon(settings, manager, report, link);
  absl::Status status = daemon.Run();
  if (status.ok()) return status;
  manager.Status(status.message());
  if (daemon.is_ready()) {
    LOG(ERROR) << status.message();
  } else {
    report.Failed(status);
  }
  return status;
}

}  // namespace pcachefs
