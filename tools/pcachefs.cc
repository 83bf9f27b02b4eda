// pcachefs: serves a cache. See HelpText() in tools/flags.cc.

#include <sys/prctl.h>
#include <sys/utsname.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "fuse/ring_channels.h"
#include "tools/flags.h"
#include "tools/gflags_exit.h"
#include "tools/logging.h"
#include "tools/mount_helper.h"
#include "tools/mountpoint.h"
#include "tools/serve.h"
#include "tools/service_manager.h"
#include "tools/settings.h"
#include "tools/signal_watcher.h"
#include "tools/start_report.h"
#include "tools/supervisor.h"
#include "tools/supervisor_link.h"
#include "tools/supervisor_messages.h"
#include "tools/version.h"

namespace pcachefs {
namespace {

absl::StatusOr<std::string> ResolveMountpoint(const Settings& settings) {
  std::vector<std::string> devices = {settings.cache};
  for (const ImageSpec& image : settings.backing) {
    devices.push_back(image.spec);
  }
  return CheckMountpoint(settings.mountpoint, devices);
}

// The unit is one for all kernels: with an older one it serves without. Who
// types it is told.
void GiveFailoverUpIfService(Settings& settings) {
  utsname system = {};
  uname(&system);
  if (!settings.failover || getenv("NOTIFY_SOCKET") == nullptr ||
      KernelKeepsRequests(system.release)) {
    return;
  }
  settings.failover = false;
  fprintf(stderr,
          "pcachefs: warning: serving without failover: Linux %s cannot send "
          "requests again, 6.9 can\n",
          system.release);
}

int SuperviseHere(const Settings& settings,
                  const std::vector<std::string>& arguments) {
  SignalWatcher::BlockSignals();
  StartReport report = settings.foreground ? StartReport::Foreground()
                                           : StartReport::Daemonize();
  StartLogging("pcachefs", settings.foreground);
  return Supervise(
      {.mountpoint = settings.mountpoint, .arguments = arguments}, report);
}

// A daemon of a supervisor.
int ServeSupervised(const Settings& settings, SupervisorLink& link) {
  prctl(PR_SET_NAME, "pcachefs");  // started by descriptor, it has no name
  StartReport report =
      StartReport::To([&](StartReport::Word word, absl::string_view text) {
        switch (word) {
          case StartReport::Word::kWarning:
            return link.Say(SupervisorWord::kWarn, 0, text);
          case StartReport::Word::kFailure:
            return link.Say(SupervisorWord::kFailed, 0, text);
          case StartReport::Word::kReady:
            if (!settings.foreground) LeaveTerminal();
            return link.Say(SupervisorWord::kReady);
        }
      });
  StartLogging("pcachefs", settings.foreground);
  return Serve(settings, report, &link).ok() ? kExitOk : kExitFailure;
}

int Main(int argc, char** argv) {
  if (const char* const order = getenv(RingChannels::kFillVariable)) {
    return RingChannels::Fill(order);
  }
#ifdef NDEBUG
  // Debian's abseil looks for deadlocks at every lock, whatever its users are
  // built as.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
#endif
  absl::StatusOr<std::unique_ptr<SupervisorLink>> link =
      SupervisorLink::FromEnvironment();
  if (!link.ok()) {
    PrintError(link.status());
    return kExitFailure;
  }
  MountHelperCall call = {.arguments = {argv, argv + argc}};
  if (argc > 0 && IsMountHelper(argv[0])) {
    absl::StatusOr<MountHelperCall> translated =
        TranslateMountHelperCall(call.arguments);
    if (!translated.ok()) {
      PrintError(translated.status());
      return kExitUsage;
    }
    call = *std::move(translated);
  }
  absl::StatusOr<CommandLine> line =
      ParseCommandLine(std::move(call.arguments));
  if (!line.ok()) {
    PrintError(line.status());
    return kExitUsage;
  }
  if (line->wants_help) {
    fputs(HelpText().c_str(), stdout);
    return kExitOk;
  }
  if (line->wants_version) {
    puts(VersionLine("pcachefs").c_str());
    return kExitOk;
  }
  Settings& settings = line->settings;
  if (*link != nullptr) {
    // The mountpoint may be mounted on, and nobody answers there.
    SignalWatcher::BlockSignals();
    return ServeSupervised(settings, **link);
  }
  GiveFailoverUpIfService(settings);
  if (settings.is_supervised() && HasStoredDescriptors()) {
    return SuperviseHere(settings, line->all_arguments);
  }
  absl::StatusOr<std::string> mountpoint = ResolveMountpoint(settings);
  if (!mountpoint.ok()) {
    PrintError(mountpoint.status());
    return kExitFailure;
  }
  settings.mountpoint = *std::move(mountpoint);
  if (call.is_fake) return kExitOk;

  if (settings.is_supervised()) {
    return SuperviseHere(settings, line->all_arguments);
  }
  SignalWatcher::BlockSignals();
  StartReport report = settings.foreground ? StartReport::Foreground()
                                           : StartReport::Daemonize();
  StartLogging("pcachefs", settings.foreground);
  return Serve(settings, report).ok() ? kExitOk : kExitFailure;
}

}  // namespace
}  // namespace pcachefs

int main(int argc, char** argv) { return pcachefs::Main(argc, argv); }
