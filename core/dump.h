// Any structure of a cache device as values, for people who look inside. Reads
// only; shares every parser with the daemon.

#ifndef PCACHEFS_CORE_DUMP_H_
#define PCACHEFS_CORE_DUMP_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iobackend/cache_device.h"
#include "meta/geometry.h"
#include "meta/key_set.h"
#include "meta/records.h"
#include "meta/types.h"

namespace pcachefs {

struct CacheDump {
  struct Image {
    ImageId id;
    ImageRecord record;
    // What could be read; why not otherwise.
    absl::StatusOr<LogTails> tails = absl::UnknownError("not read");
  };

  Superblock superblock;
  CacheInfo info;
  std::vector<Image> images;
  std::vector<SegmentRecord> segments;  // by SegmentId
};

// Errors of Cache::Inspect; DataLoss for what cannot be parsed.
absl::StatusOr<CacheDump> DumpCache(CacheDevice& device);

// Visits every key of an image's log in order, from key_tail to the last valid
// set. Ends with the error that ended the walk: OK at the end of the log.
struct DumpedKey {
  LogPosition position;  // of its set
  const KeySetHeader& set;
  const Key& key;
};
absl::Status DumpKeys(CacheDevice& device, const std::string& image,
                      const std::function<void(const DumpedKey&)>& visit);

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_DUMP_H_
