#include "fuse/image_setting.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/image_settings.h"
#include "core/status.h"
#include "fuse/control_target.h"
#include "iobackend/wakeup.h"
#include "meta/records.h"
#include "meta/size_parser.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

absl::Status Bad(absl::string_view key, absl::string_view value,
                 absl::string_view want) {
  return absl::InvalidArgumentError(
      absl::StrCat(key, ": got '", value, "', want ", want));
}

bool IsNone(absl::string_view value) { return value == "0" || value == "off"; }

// A size, or 0.
absl::StatusOr<uint64_t> ReadSize(absl::string_view key,
                                  absl::string_view value) {
  if (IsNone(value)) return 0;
  const absl::StatusOr<uint64_t> size = ParseSize(value);
  if (!size.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, ": ", size.status().message(), ", or 0 for none"));
  }
  return size;
}

std::string Text(uint64_t number) { return absl::StrCat(number); }

absl::Status SetGcPercent(ControlTarget& target, const ImageStatus& image,
                          absl::string_view value) {
  int percent = 0;
  if (!absl::SimpleAtoi(value, &percent) || percent < 0 ||
      percent > kMaxGcPercent) {
    return Bad("gc_percent", value, absl::StrCat("0..", kMaxGcPercent));
  }
  return target.Change(image.name, {.gc_percent = percent});
}

// An attribute file is written by a shell that waits, on a thread that others
// need: a switch that takes longer goes on by itself, and the file shows the new
// mode at its end. `pcachectl set` waits for that.
constexpr absl::Duration kModeWait = absl::Seconds(2);

absl::Status SetMode(ControlTarget& target, const ImageStatus& image,
                     absl::string_view value) {
  struct Result {
    absl::Mutex mutex;
    Wakeup ended;
    absl::Status status ABSL_GUARDED_BY(mutex);
  };
  ASSIGN_OR_RETURN(const CacheMode mode, ParseCacheMode(value));
  auto result = std::make_shared<Result>();
  target.SetMode(image.name, mode, [result](absl::Status status) {
    {
      absl::MutexLock lock(&result->mutex);
      result->status = std::move(status);
    }
    result->ended.Set();
  });
  result->ended.WaitFor(kModeWait);
  absl::MutexLock lock(&result->mutex);
  return result->status;
}

absl::Status SetOrder(ControlTarget& target, const ImageStatus& image,
                      absl::string_view value) {
  ASSIGN_OR_RETURN(const WritebackOrder order, ParseWritebackOrder(value));
  return target.Change(image.name, {.order = order});
}

// Bytes, or percent of the image's share as it is now.
absl::Status SetMaxDirty(ControlTarget& target, const ImageStatus& image,
                         absl::string_view value) {
  if (IsNone(value)) return target.Change(image.name, {.max_dirty = 0});
  const absl::StatusOr<SizeOrPercent> limit = ParseSizeOrPercent(value);
  if (!limit.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_dirty: ", limit.status().message()));
  }
  const uint64_t share = uint64_t{image.cache_segs} * image.segment_size;
  return target.Change(image.name, {.max_dirty = limit->Of(share)});
}

absl::Status SetMaxDirtyAge(ControlTarget& target, const ImageStatus& image,
                            absl::string_view value) {
  uint32_t seconds = 0;
  if (!IsNone(value) && !absl::SimpleAtoi(value, &seconds)) {
    return Bad("max_dirty_age", value, "seconds, or 0 for none");
  }
  return target.Change(image.name, {.max_dirty_age = seconds});
}

absl::Status SetWritebackRate(ControlTarget& target, const ImageStatus& image,
                              absl::string_view value) {
  ASSIGN_OR_RETURN(const uint64_t rate, ReadSize("writeback_rate", value));
  return target.Change(image.name, {.writeback_rate_ceiling = rate});
}

absl::Status SetWritebackRateFloor(ControlTarget& target,
                                   const ImageStatus& image,
                                   absl::string_view value) {
  ASSIGN_OR_RETURN(const uint64_t rate,
                   ReadSize("writeback_rate_floor", value));
  return target.Change(image.name, {.writeback_rate_floor = rate});
}

uint64_t ShareBytes(const ImageStatus& image) {
  return uint64_t{image.cache_segs} * image.segment_size;
}

absl::Status SetShare(ControlTarget& target, const ImageStatus& image,
                      absl::string_view value) {
  const absl::StatusOr<uint64_t> bytes = ParseSize(value);
  if (!bytes.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("image_cache_size: ", bytes.status().message()));
  }
  return target.SetShare(image.name, *bytes);
}

absl::Status SetSequentialCutoff(ControlTarget& target,
                                 const ImageStatus& image,
                                 absl::string_view value) {
  ASSIGN_OR_RETURN(const uint64_t bytes, ReadSize("sequential_cutoff", value));
  return target.Change(image.name, {.sequential_cutoff = bytes});
}

}  // namespace

const std::vector<ImageSetting>& ImageSettings() {
  static const auto& settings = *new std::vector<ImageSetting>{
      {"gc_percent", "0..90",
       [](const ImageStatus& i) { return Text(i.gc_percent); }, SetGcPercent},
      {"cache_mode",
       "writeback|writethrough|writearound|writeonly|passthrough",
       [](const ImageStatus& i) { return std::string(Name(i.mode)); },
       SetMode},
      {"order", "strict|grouped|relaxed",
       [](const ImageStatus& i) { return std::string(Name(i.order)); },
       SetOrder},
      {"max_dirty", "SIZE|PERCENT, 0 = the whole share",
       [](const ImageStatus& i) { return Text(i.max_dirty); }, SetMaxDirty},
      {"max_dirty_age", "seconds, 0 = none",
       [](const ImageStatus& i) { return Text(i.max_dirty_age); },
       SetMaxDirtyAge},
      {"writeback_rate", "bytes per second at most, 0 = no limit",
       [](const ImageStatus& i) { return Text(i.writeback_rate_ceiling); },
       SetWritebackRate},
      {"writeback_rate_floor", "bytes per second at least, 0 = none",
       [](const ImageStatus& i) { return Text(i.writeback_rate_floor); },
       SetWritebackRateFloor},
      {"image_cache_size", "SIZE, rounded up to whole segments",
       [](const ImageStatus& i) { return Text(ShareBytes(i)); }, SetShare},
      {"sequential_cutoff", "SIZE, 0 = off",
       [](const ImageStatus& i) { return Text(i.sequential_cutoff); },
       SetSequentialCutoff},
  };
  return settings;
}

const ImageSetting* FindImageSetting(absl::string_view key) {
  for (const ImageSetting& setting : ImageSettings()) {
    if (setting.key == key) return &setting;
  }
  return nullptr;
}

}  // namespace pcachefs
