// What stands behind Cache: the cache device's own records, the table of
// images, and the threads.

#ifndef PCACHEFS_CORE_CACHE_CORE_H_
#define PCACHEFS_CORE_CACHE_CORE_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "core/background_worker.h"
#include "core/barrier.h"
#include "core/cached_image.h"
#include "core/clock.h"
#include "core/image_core.h"
#include "core/options.h"
#include "core/segment_table.h"
#include "core/slot_store.h"
#include "core/status.h"
#include "iobackend/backing_device.h"
#include "iobackend/cache_device.h"
#include "meta/geometry.h"
#include "meta/records.h"
#include "meta/slot_pair.h"
#include "meta/types.h"

namespace pcachefs {

// A device's own records, as read at open.
struct DeviceRecords {
  Superblock superblock;
  Geometry geometry;
  CacheInfo info;
  SlotCursor info_cursor;
};
// Errors of Cache::Inspect. Reads only.
absl::StatusOr<DeviceRecords> ReadDeviceRecords(CacheDevice& device);

// The record in a slot of the image table. NotFound if there is none, or if it
// was never complete: a power cut tore the first store of it.
absl::StatusOr<SlotChoice<ImageRecord>> LoadImageRecord(
    CacheDevice& device, const Geometry& geometry, ImageId id);

// An image's record and where the next version of it goes.
struct KnownImage {
  ImageRecord record;
  SlotCursor cursor;
};
// By slot of the image table; slots without an image are left out.
absl::StatusOr<std::map<ImageId, KnownImage>> ReadImageTable(
    CacheDevice& device, const Geometry& geometry);

// Thread-safe.
class CacheCore {
 public:
  CacheCore(CacheDevice& device, const CacheOptions& options, Clock& clock,
            const DeviceRecords& records);
  ~CacheCore();

  // Reads tables, makes what was found durable, marks the start.
  absl::Status Load();

  absl::StatusOr<CachedImage*> Attach(const std::string& name,
                                      std::unique_ptr<BackingDevice> backing,
                                      const ImageOptions& options);
  std::vector<ImageRecord> KnownImages();
  uint64_t unassigned_bytes();
  std::vector<CachedImage*> images();
  absl::Status Close();
  CacheStatus status();
  bool Step();

 private:
  // An image in service and its threads. The threads' objects outlive the
  // image, whose last completions may still kick them.
  struct Served {
    std::unique_ptr<BackgroundWorker> maintenance;
    std::unique_ptr<BackgroundWorker> writeback;
    std::unique_ptr<CachedImage> image;
  };

  std::array<MediaOffset, 2> RecordSlots(ImageId id) const {
    return {geometry_.image_record(id, 0), geometry_.image_record(id, 1)};
  }
  std::array<MediaOffset, 2> TailsSlots(ImageId id) const {
    return {geometry_.log_tails(id, 0), geometry_.log_tails(id, 1)};
  }

  absl::Status CheckNotServed(const std::string& name,
                              const BackingDevice& backing)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<ImageId> FindOrCreate(const std::string& name,
                                       const BackingDevice& backing,
                                       const ImageOptions& options)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<ImageId> Create(const std::string& name,
                                 const BackingDevice& backing,
                                 const ImageOptions& options)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::unique_ptr<ImageCore>> Replay(
      ImageId id, std::unique_ptr<BackingDevice> backing, bool read_only)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  CachedImage* Serve(std::unique_ptr<ImageCore> core)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status StoreInfo(bool clean_stop) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint32_t UnassignedSegments() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CloseImage(ImageCore& core);
  Uuid NewUuid() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  CacheDevice& device_;
  const CacheOptions options_;
  Clock& clock_;
  const Superblock superblock_;
  const Geometry geometry_;
  Barrier barrier_;
  SegmentTable table_;
  const CacheParts parts_;

  absl::Mutex mutex_;
  CacheInfo info_ ABSL_GUARDED_BY(mutex_);
  SlotCursor info_cursor_ ABSL_GUARDED_BY(mutex_);
  std::map<ImageId, KnownImage> known_ ABSL_GUARDED_BY(mutex_);
  std::map<ImageId, Served> served_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread committer_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_CACHE_CORE_H_
