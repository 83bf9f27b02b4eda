// pcachefs: serves a cache. See HelpText() in tools/flags.cc.

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/flags.h"
#include "tools/gflags_exit.h"
#include "tools/logging.h"
#include "tools/mount_helper.h"
#include "tools/mountpoint.h"
#include "tools/serve.h"
#include "tools/settings.h"
#include "tools/signal_watcher.h"
#include "tools/start_report.h"
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

int Main(int argc, char** argv) {
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
  absl::StatusOr<std::string> mountpoint = ResolveMountpoint(settings);
  if (!mountpoint.ok()) {
    PrintError(mountpoint.status());
    return kExitFailure;
  }
  settings.mountpoint = *std::move(mountpoint);
  if (call.is_fake) return kExitOk;

  SignalWatcher::BlockSignals();
  StartReport report = settings.foreground ? StartReport::Foreground()
                                           : StartReport::Daemonize();
  StartLogging("pcachefs", settings.foreground);
  return Serve(settings, report).ok() ? kExitOk : kExitFailure;
}

}  // namespace
}  // namespace pcachefs

int main(int argc, char** argv) { return pcachefs::Main(argc, argv); }
