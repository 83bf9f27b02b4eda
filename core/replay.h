// Rebuilds an image's part of the cache from its log: index, references,
// checksums, dirty marks, and where the log goes on.
//
// docs/on_media_format.md sections 8 ("End of the log, or damage", "What no
// barrier covered") and 9 say what is done here and why.

#ifndef PCACHEFS_CORE_REPLAY_H_
#define PCACHEFS_CORE_REPLAY_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/image_core.h"
#include "core/segment_table.h"
#include "iobackend/cache_device.h"
#include "meta/key_set.h"
#include "meta/records.h"
#include "meta/types.h"

namespace pcachefs {

// The end of a log, found without changing anything.
struct LogEnd {
  LogPosition head;         // where the next set goes
  Incarnation incarnation;  // of the last set
  SequenceNumber proven;    // sets up to here are known to have been durable
  uint64_t key_sets = 0;
  uint64_t keys = 0;
  uint64_t dropped_key_sets = 0;  // valid, but behind payload that is not there
  uint64_t verified_bytes = 0;    // payload that no barrier covered
};

// First pass: walks the log from key_tail. DataLoss if it is damaged, with the
// place. Thread-compatible; reads only.
absl::StatusOr<LogEnd> FindLogEnd(CacheDevice& device, SegmentTable& segments,
                                  const ImageRecord& record,
                                  const LogTails& tails);

// Second pass: applies every set before log.head() to a fresh `core`. Segments
// that records give to the image but nothing names are put on the list of the
// unreferenced. Provisional keys that do not count are made void for good in
// core.tails(), which the caller stores. DataLoss as above.
absl::Status ReplayLog(ImageCore& core, ImageStatus::Replay& found);

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_REPLAY_H_
