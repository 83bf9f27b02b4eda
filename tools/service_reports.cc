#include "tools/service_reports.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/status.h"
#include "meta/size_parser.h"
#include "tools/service_manager.h"
#include "tools/ticker.h"

namespace pcachefs {
namespace {

// What the process has done so far, in units that do not matter.
struct Work {
  absl::Duration computed;
  int64_t read = 0;

  static Work Now() {
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    return {absl::DurationFromTimeval(usage.ru_utime) +
                absl::DurationFromTimeval(usage.ru_stime),
            usage.ru_inblock};
  }
  // The ticking itself takes microseconds.
  bool IsMoreThan(const Work& before) const {
    return computed - before.computed > absl::Milliseconds(2) ||
           read != before.read;
  }
};

// True once a request has made its way through the mount.
bool Answers(const std::string& mountpoint) {
  struct stat attributes;
  // ENOENT, which the kernel does not remember: the server is asked each time.
  const std::string path = mountpoint + "/.pcache-probe";
  return stat(path.c_str(), &attributes) == 0 || errno == ENOENT;
}

}  // namespace

StartReports::StartReports(const ServiceManager& manager,
                           absl::Duration period) {
  if (!manager.is_present()) return;
  ticker_ = std::make_unique<Ticker>(
      period, [&manager, period, last = Work{}]() mutable {
        const Work now = Work::Now();
        if (now.IsMoreThan(last)) manager.ExtendTimeout(3 * period);
        last = now;
      });
}

ServingReports::ServingReports(const ServiceManager& manager,
                               const std::string& mountpoint,
                               absl::AnyInvocable<CacheStatus()> status,
                               absl::Duration period) {
  if (!manager.is_present()) return;
  if (manager.watchdog() != absl::InfiniteDuration()) {
    alive_ = std::make_unique<Ticker>(
        std::min(manager.watchdog() / 3, period), [&manager, mountpoint] {
          if (Answers(mountpoint)) manager.IsAlive();
        });
  }
  status_ = std::make_unique<Ticker>(
      period, [&manager, status = std::move(status)]() mutable {
        manager.Status(DescribeServing(status()));
      });
}

std::string DescribeServing(const CacheStatus& status) {
  uint64_t dirty = 0;
  for (const ImageStatus& image : status.images) dirty += image.dirty_bytes;
  std::string text = absl::StrCat(
      "serving ", status.images.size(),
      status.images.size() == 1 ? " image, " : " images, ", FormatSize(dirty),
      " dirty, ", status.segments_used, " of ", status.segments,
      " segments used");
  if (status.state != HealthState::kRunning) {
    absl::StrAppend(&text, "; cache ", Name(status.state), ": ",
                    status.state_reason);
  }
  for (const ImageStatus& image : status.images) {
    if (image.state == HealthState::kRunning) continue;
    absl::StrAppend(&text, "; ", image.name, " ", Name(image.state), ": ",
                    image.state_reason);
  }
  return text;
}

}  // namespace pcachefs
