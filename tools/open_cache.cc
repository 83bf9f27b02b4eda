#include "tools/open_cache.h"

#include <glog/logging.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "core/cached_image.h"
#include "core/clock.h"
#include "core/options.h"
#include "core/status.h"
#include "iobackend/backing_device.h"
#include "iobackend/open_device.h"
#include "meta/records.h"
#include "meta/status_macros.h"
#include "tools/image_specs.h"
#include "tools/settings.h"

namespace pcachefs {
namespace {

absl::Status FormatNew(const Settings& settings, CacheDevice& device,
                       Clock& clock) {
  FormatOptions options;
  options.segment_size = settings.segment_size;
  if (settings.gc_percent >= 0) {
    options.gc_percent = static_cast<uint8_t>(settings.gc_percent);
  }
  return Cache::Format(device, options, clock);
}

ImageOptions OptionsForNew(const Settings& settings) {
  ImageOptions options;
  options.mode = settings.mode;
  options.order = settings.order;
  options.gc_percent = settings.gc_percent;
  options.cache_size = settings.image_cache_size;
  options.read_only = settings.read_only;
  options.read_only_backing = settings.read_only_backing;
  return options;
}

ImageOptions OptionsForKnown(const Settings& settings,
                             const ImageRecord& record) {
  ImageOptions options;
  options.mode = record.mode;
  options.order = record.order;
  options.gc_percent = record.gc_percent;
  options.read_only = settings.read_only;
  options.read_only_backing = record.read_only_backing;
  return options;
}

absl::StatusOr<std::unique_ptr<BackingDevice>> OpenBacking(
    const Settings& settings, const std::string& spec, bool read_only) {
  BackingDeviceOptions options;
  options.read_only = settings.read_only || read_only;
  options.nbd_connections = settings.nbd_connections;
  options.nbd_timeout = absl::Seconds(settings.nbd_timeout);
  return OpenBackingDevice(spec, options);
}

absl::Status AttachImage(const Settings& settings, const ImageSpec& image,
                         const ImageOptions& options, Cache& cache) {
  absl::StatusOr<std::unique_ptr<BackingDevice>> backing =
      OpenBacking(settings, image.spec, options.read_only_backing);
  if (!backing.ok()) {
    return absl::Status(
        backing.status().code(),
        absl::StrCat("image ", image.name, ": ", backing.status().message()));
  }
  ASSIGN_OR_RETURN(CachedImage* const attached,
                   cache.Attach(image.name, *std::move(backing), options));
  if (!settings.max_dirty.has_value()) return absl::OkStatus();
  const ImageStatus status = attached->status();
  const uint64_t share = uint64_t{status.cache_segs} * status.segment_size;
  return attached->Change({.max_dirty = settings.max_dirty->Of(share)});
}

}  // namespace

absl::StatusOr<OpenedCache> OpenCache(const Settings& settings, Clock& clock) {
  CacheDeviceOptions device_options;
  device_options.create_size = settings.cache_size;
  absl::StatusOr<OpenedCacheDevice> device =
      OpenCacheDevice(settings.cache, device_options);
  if (absl::IsNotFound(device.status())) {
    return absl::NotFoundError(absl::StrCat(
        device.status().message(), "; --cache_size=SIZE would make it"));
  }
  if (!device.ok()) return device.status();
  absl::Cleanup remove = [&] {
    if (device->created) unlink(settings.cache.c_str());
  };

  OpenedCache opened = {.device = std::move(device->device),
                        .created = device->created};
  // What is no cache is refused by name, with the command that makes it one.
  RETURN_IF_ERROR(opened.created ? FormatNew(settings, *opened.device, clock)
                                 : Cache::Inspect(*opened.device));
  CacheOptions options;
  options.read_ahead = settings.read_ahead.value_or(options.read_ahead);
  ASSIGN_OR_RETURN(opened.cache,
                   Cache::Open(*opened.device, options, clock));
  std::move(remove).Cancel();
  return opened;
}

absl::Status AttachImages(const Settings& settings, Cache& cache,
                          MissingImages& missing) {
  std::vector<ImageSpec> wanted = settings.backing;
  for (const ImageRecord& record : cache.KnownImages()) {
    const auto named = std::find_if(
        wanted.begin(), wanted.end(),
        [&](const ImageSpec& image) { return image.name == record.name; });
    if (named == wanted.end() && record.state == ImageState::kDetached) {
      continue;
    }
    // Another way to the same device is welcome; Attach compares identities.
    const ImageSpec image = named != wanted.end()
                                ? *named
                                : ImageSpec{record.name, record.backing_spec};
    if (named != wanted.end() && settings.read_only_backing &&
        !record.read_only_backing) {
      return absl::FailedPreconditionError(absl::StrCat(
          "image ", record.name, ": --read_only_backing: the cache knows it as "
          "one whose backing device is written to; start without, or detach it "
          "first"));
    }
    const bool may_miss = settings.skip_missing && named == wanted.end();
    if (named != wanted.end()) wanted.erase(named);
    const absl::Status attached =
        AttachImage(settings, image, OptionsForKnown(settings, record), cache);
    if (attached.ok()) continue;
    if (!may_miss || absl::IsDataLoss(attached)) return attached;
    LOG(WARNING) << "not served: " << attached.message();
    missing[record.name] = attached;
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    ImageOptions options = OptionsForNew(settings);
    if (options.cache_size == 0) {
      // An even share of what is free, among those named here. If that is
      // nothing the others make room.
      options.cache_size = cache.unassigned_bytes() / (wanted.size() - i);
      options.is_default_size = true;
    }
    RETURN_IF_ERROR(AttachImage(settings, wanted[i], options, cache));
  }
  return absl::OkStatus();
}

BackingSource SourceOf(const Settings& settings) {
  BackingSource source;
  source.identify = IdentifyBackingDevice;
  source.open = [&settings](const std::string& spec, bool read_only) {
    return OpenBacking(settings, spec, read_only);
  };
  source.defaults = OptionsForNew(settings);
  return source;
}

}  // namespace pcachefs
