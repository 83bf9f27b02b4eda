// A cache: one cache device and the images it serves.
//
//   ASSIGN_OR_RETURN(auto cache, Cache::Open(device, options, clock));
//   ASSIGN_OR_RETURN(CachedImage* vm1,
//                    cache->Attach("vm1", std::move(backing), {}));
//   ...
//   RETURN_IF_ERROR(cache->Close());

#ifndef PCACHEFS_CORE_CACHE_H_
#define PCACHEFS_CORE_CACHE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/cached_image.h"
#include "core/clock.h"
#include "core/options.h"
#include "core/status.h"
#include "iobackend/backing_device.h"
#include "iobackend/cache_device.h"

namespace pcachefs {

class CacheCore;  // core/cache_core.h

// Thread-safe.
class Cache {
 public:
  // Writes an empty cache onto `device`, durably. Whatever was there is gone:
  // the caller has asked before (see Inspect).
  static absl::Status Format(CacheDevice& device, const FormatOptions& options,
                             Clock& clock);

  // OK if `device` holds a cache of this version. FailedPrecondition: blank,
  // foreign, newer, or smaller than recorded, each named; DataLoss: ours, but
  // both superblock slots are damaged.
  static absl::Status Inspect(CacheDevice& device);

  // Reads the cache's own records. `device` and `clock` outlive the Cache.
  // Errors as Inspect, and DataLoss for damaged records.
  static absl::StatusOr<std::unique_ptr<Cache>> Open(CacheDevice& device,
                                                     const CacheOptions& options,
                                                     Clock& clock);

  // Stops without committing, as a crash would, unless Close() was called.
  // Requests that wait for space are answered with an error.
  ~Cache();

  // Records of all images that the cache knows, attached or not.
  std::vector<ImageRecord> KnownImages() const;

  // Starts serving an image. A known name is replayed after its backing device
  // was found to be the recorded one, of the recorded size; an unknown name
  // gets a record and an empty log. The pointer is valid until Detach or the
  // end of the Cache. May take long, as all that changes which images there
  // are; never to be called by a request's `done`. Errors: AlreadyExists (name in use, or the
  // device serves another image), FailedPrecondition (wrong device, both
  // identities named), ResourceExhausted (no free segments or image slots),
  // DataLoss (damaged log, with the place).
  absl::StatusOr<CachedImage*> Attach(const std::string& name,
                                      std::unique_ptr<BackingDevice> backing,
                                      const ImageOptions& options);

  // Ends service of an image; all its requests have been answered, and nobody
  // begins another one. With kRemove and kDiscard its record, segments and
  // share are free when it returns, on the media too; with kKeepDirty all is
  // durable and comes back with Attach, but not by itself. A known image that
  // is not in service can only be removed with kDiscard. Drains that wait are
  // answered Unavailable. NotFound; FailedPrecondition, then it is served on,
  // if dirty data or marks of lost data are in the way; errors of the cache device: out of service,
  // and found at the next start as a crash would leave it.
  absl::Status Detach(const std::string& name, DetachKind kind);

  // Changes a known image's share, durably, to `bytes` rounded up to whole
  // segments. A smaller one counts at once, and the image gives back what it
  // uses beyond it as it is written back and reclaimed; until then nobody else
  // gets it. NotFound; ResourceExhausted if it is not to be had.
  absl::Status SetShare(const std::string& name, uint64_t bytes);

  // Takes what the cache device has become larger into use; how many segments
  // that gives, in nobody's share yet. Open does that too.
  absl::StatusOr<uint32_t> Grow();

  // Bytes of segments that no image's share takes.
  uint64_t unassigned_bytes() const;

  // Those in service; valid until they are detached.
  CachedImage* Find(absl::string_view name);
  std::vector<CachedImage*> images();

  // Commits everything, marks a clean stop and ends background work; dirty data
  // stays. All requests must have been answered before. The first error is
  // returned; the cache is closed all the same.
  absl::Status Close();

  CacheStatus status();

  // One round of background work of every image (commit by age, writeback,
  // reclaim): what the threads do when start_threads is set. True if anything
  // was done.
  bool Step();

 private:
  explicit Cache(std::unique_ptr<CacheCore> core);


  std::unique_ptr<CacheCore> core_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_CACHE_H_
