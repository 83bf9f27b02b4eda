// From settings to an open cache with its images attached.

#ifndef PCACHEFS_TOOLS_OPEN_CACHE_H_
#define PCACHEFS_TOOLS_OPEN_CACHE_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/cache.h"
#include "core/clock.h"
#include "fuse/image_manager.h"
#include "iobackend/cache_device.h"
#include "tools/settings.h"

namespace pcachefs {

struct OpenedCache {
  std::unique_ptr<CacheDevice> device;
  bool created = false;
  std::unique_ptr<Cache> cache;  // after the device: ends before it
};

// Makes and formats the file if there is none and a size was given; refuses
// what is no cache, with the command that would make it one. A file that it has
// made and cannot use is removed again. `clock` outlives the result.
absl::StatusOr<OpenedCache> OpenCache(const Settings& settings, Clock& clock);

// Attaches the images that the cache knows, and those of the settings. The
// first that cannot be attached ends it; with settings.skip_missing, of those
// that the settings do not name only those whose log is damaged do, and the
// others are added to `missing` with the reason.
using MissingImages = std::map<std::string, absl::Status>;
absl::Status AttachImages(const Settings& settings, Cache& cache,
                          MissingImages& missing);

// Opens backing devices as the settings say, for images that come later. They
// outlive the result.
BackingSource SourceOf(const Settings& settings);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_OPEN_CACHE_H_
