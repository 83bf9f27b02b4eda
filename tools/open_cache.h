// From settings to an open cache with its images attached.

#ifndef PCACHEFS_TOOLS_OPEN_CACHE_H_
#define PCACHEFS_TOOLS_OPEN_CACHE_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/cache.h"
#include "core/clock.h"
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
// first that cannot be attached ends it.
absl::Status AttachImages(const Settings& settings, Cache& cache);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_OPEN_CACHE_H_
