#include "tools/commands/writeback.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "core/options.h"
#include "core/status.h"
#include "fuse/status_json.h"
#include "iobackend/backing_device.h"
#include "iobackend/cache_device.h"
#include "iobackend/open_device.h"
#include "meta/records.h"
#include "meta/size_parser.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/image_specs.h"
#include "tools/progress_bar.h"
#include "tools/system_clock.h"

namespace pcachefs {
namespace {

constexpr absl::Duration kRedraw = absl::Milliseconds(200);

absl::StatusOr<ImageRecord> FindImage(Cache& cache, const std::string& path,
                                      const std::string& name) {
  std::string names;
  for (ImageRecord& record : cache.KnownImages()) {
    if (record.name == name) return std::move(record);
    absl::StrAppend(&names, names.empty() ? "" : ", ", record.name);
  }
  return absl::NotFoundError(
      absl::StrCat(path, ": no image '", name, "'; it has: ",
                   names.empty() ? "none" : names));
}

absl::StatusOr<CachedImage*> Attach(Cache& cache, const ImageRecord& record,
                                    const std::string& spec, bool replace) {
  absl::StatusOr<std::unique_ptr<BackingDevice>> backing =
      OpenBackingDevice(spec, {});
  if (!backing.ok()) {
    return absl::Status(backing.status().code(),
                        absl::StrCat("image ", record.name, ": ",
                                     backing.status().message()));
  }
  ImageOptions options;
  options.mode = record.mode;
  options.order = record.order;
  options.replace_backing = replace;
  absl::StatusOr<CachedImage*> image =
      cache.Attach(record.name, *std::move(backing), options);
  if (!absl::IsFailedPrecondition(image.status()) || replace) return image;
  return absl::FailedPreconditionError(absl::StrCat(
      image.status().message(),
      "; if it is a copy of the right one, of the same size, that takes its "
      "place for good: --force"));
}

// How many bytes were dirty.
absl::StatusOr<uint64_t> Drain(CachedImage& image) {
  ProgressBar bar("writeback");
  const absl::Time start = absl::Now();
  const uint64_t total = image.status().dirty_bytes;
  absl::Notification ended;
  absl::Status status;
  image.Drain([&](absl::Status drained) {
    status = std::move(drained);
    ended.Notify();
  });
  while (!ended.WaitForNotificationWithTimeout(kRedraw)) {
    const uint64_t left = std::min(image.status().dirty_bytes, total);
    bar.Update(total - left, total, absl::Now() - start);
  }
  RETURN_IF_ERROR(status);
  bar.Update(total, total, absl::Now() - start);
  const ImageStatus after = image.status();
  if (after.state == HealthState::kRunning) return total;
  return absl::DataLossError(absl::StrCat("image ", image.name(),
                                          ": what could be read is written "
                                          "back, but: ",
                                          after.state_reason));
}

absl::StatusOr<uint64_t> WriteBack(Cache& cache, const ImageRecord& record,
                                   const std::string& spec, bool replace) {
  if (record.read_only_backing && !replace) {
    return absl::FailedPreconditionError(absl::StrCat(
        "image ", record.name, ": its backing device is read-only: what was "
        "written stays in the cache; to write it to a copy of the device, which "
        "takes its place from then on: name the copy, and --force"));
  }
  ASSIGN_OR_RETURN(CachedImage* const image,
                   Attach(cache, record, spec, replace));
  const absl::StatusOr<uint64_t> written = Drain(*image);
  if (written.ok() && record.state == ImageState::kDetached) {
    // It was not to come back by itself.
    RETURN_IF_ERROR(cache.Detach(record.name, DetachKind::kKeepDirty));
  }
  return written;
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  const std::string path = arguments.Word(0);
  const std::string name = arguments.Word(1);
  std::string spec;
  if (arguments.words.size() > 2) {
    ASSIGN_OR_RETURN(const ImageSpec image,
                     ParseImageSpec(absl::StrCat(name, "=",
                                                 arguments.Word(2))));
    spec = image.spec;
  }
  ASSIGN_OR_RETURN(const OpenedCacheDevice opened, OpenCacheDevice(path, {}));
  SystemClock clock;
  ASSIGN_OR_RETURN(const std::unique_ptr<Cache> cache,
                   Cache::Open(*opened.device, {}, clock));
  const absl::StatusOr<ImageRecord> record = FindImage(*cache, path, name);
  absl::StatusOr<uint64_t> written = 0;
  if (record.ok()) {
    if (spec.empty()) spec = record->backing_spec;
    written = WriteBack(*cache, *record, spec, arguments.Has("force"));
  } else {
    written = record.status();
  }
  const absl::Status closed = cache->Close();
  RETURN_IF_ERROR(written.status());
  RETURN_IF_ERROR(closed);
  if (arguments.json()) {
    PrintJson({{"ok", true},
               {"name", name},
               {"backing", spec},
               {"written_bytes", *written}});
  } else {
    PrintText(absl::StrCat("image ", name, ": ", FormatSize(*written),
                           " written back to ", spec, ", nothing is dirty\n"));
  }
  return 0;
}

}  // namespace

Command WritebackCommand() {
  return {.name = "writeback",
          .usage = "CACHE NAME [SPEC] [--force]",
          .help =
              "Writes all dirty data of an image back, of a cache that is not "
              "being served: when\nthe daemon cannot be started, or on another "
              "machine. All that was cached stays so.\nSPEC says where the "
              "backing device is now, if it was moved; it must be the "
              "recorded\none. --force: SPEC is a copy of it, of the same size, "
              "made when nothing newer was\nwritten back, and is the image's "
              "backing device from now on.",
          .min_words = 2,
          .max_words = 3,
          .flags = {"force"},
          .run = Run};
}

}  // namespace pcachefs
