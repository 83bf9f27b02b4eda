// What stands behind Cache: the cache device's own records, the table of
// images, and the threads.
//
// What changes which images there are (attach, detach, shares, growth, close)
// happens one at a time, in a Turn, and waits for devices; it holds no lock
// then, so that status and the images in service go on. cache_core.cc begins
// and ends; attach.cc, detach.cc and cache_space.cc are the turns.

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
  SlotCursor superblock_cursor;
  // One of its copies is damaged, or of before the cache has grown.
  bool superblock_needs_copy = false;
  Geometry geometry;
  CacheInfo info;
  SlotCursor info_cursor;
};
// Errors of Cache::Inspect. Reads only.
absl::StatusOr<DeviceRecords> ReadDeviceRecords(CacheDevice& device);

// The record in a slot of the image table. NotFound if there is none: there
// never was one, it was removed, or it was never complete, since a power cut
// tore the first store of it.
absl::StatusOr<SlotChoice<ImageRecord>> LoadImageRecord(
    CacheDevice& device, const Geometry& geometry, ImageId id);

// An image's record and where the next version of it goes.
struct KnownImage {
  ImageRecord record;
  SlotCursor cursor;
};
// By slot of the image table; slots without an image are left out, but those
// of removed ones are in `vacant`, if given.
absl::StatusOr<std::map<ImageId, KnownImage>> ReadImageTable(
    CacheDevice& device, const Geometry& geometry,
    std::map<ImageId, SlotCursor>* vacant = nullptr);

// DataLoss for a segment whose tag is that of one of `images` but whose owner is
// another: SegmentTable::FreeOrphans would take it for nobody's.
absl::Status CheckOwners(const std::map<ImageId, KnownImage>& images,
                         SegmentTable& table);

// What to say when a share cannot be had; sizes in segments.
absl::Status NoRoomForShare(const std::string& name, uint64_t share,
                            uint64_t available, uint64_t segment_size,
                            uint64_t least = kMinShare);

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
  absl::Status Detach(const std::string& name, DetachKind kind);
  absl::Status SetShare(const std::string& name, uint64_t bytes);
  absl::StatusOr<uint32_t> Grow();
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
    // Those who look at the image from outside of a turn.
    int users = 0;
    bool is_leaving = false;  // nobody new looks at it

    void StopThreads();
  };

  // One change after the other. A change holds no lock while it waits for
  // devices or calls somebody back.
  class Turn {
   public:
    explicit Turn(CacheCore& core);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    CacheCore& core_;
  };

  // Keeps images from going away while they are looked at, without a lock.
  class Look {
   public:
    explicit Look(CacheCore& core);
    ~Look();
    Look(const Look&) = delete;
    Look& operator=(const Look&) = delete;

    const std::vector<CachedImage*>& images() const { return images_; }

   private:
    CacheCore& core_;
    std::vector<CachedImage*> images_;
  };

  std::array<MediaOffset, 2> RecordSlots(ImageId id) const {
    return {geometry().image_record(id, 0), geometry().image_record(id, 1)};
  }
  std::array<MediaOffset, 2> TailsSlots(ImageId id) const {
    return {geometry().log_tails(id, 0), geometry().log_tails(id, 1)};
  }
  const Geometry& geometry() const { return table_.geometry(); }

  // Unavailable once closed. What follows down to the fields is for who has
  // the turn.
  absl::Status CheckOpen();
  absl::Status CheckNotServed(const std::string& name,
                              const BackingDevice& backing,
                              const ImageOptions& options);
  absl::StatusOr<ImageId> FindOrCreate(const std::string& name,
                                       const BackingDevice& backing,
                                       const ImageOptions& options);
  // A new image's share, which is free when it returns.
  absl::StatusOr<uint32_t> ShareFor(const std::string& name,
                                    const ImageOptions& options);
  // Takes from images that have a default share so that `wanted` segments will
  // be free.
  absl::Status MakeRoom(const std::string& name, uint64_t wanted);
  // The larger of share and use, by image; who has a default share.
  std::map<ImageId, uint32_t> SegmentsByImage();
  std::vector<ImageId> ImagesWithDefaultShare();
  uint32_t ShareOf(ImageId id);
  absl::Status StoreShare(ImageId id, uint32_t share, bool is_default);
  absl::StatusOr<ImageId> Create(const std::string& name,
                                 const BackingDevice& backing,
                                 const ImageOptions& options);
  absl::Status StoreNewImage(ImageId id, const ImageRecord& record);
  absl::StatusOr<std::unique_ptr<ImageCore>> Replay(
      ImageId id, std::unique_ptr<BackingDevice> backing,
      const ImageOptions& options);
  CachedImage* Serve(std::unique_ptr<ImageCore> core);
  // Takes the image out of service, which leaves its log and record complete
  // if that is OK.
  absl::Status EndService(ImageId id);
  // The image's record and its segments go.
  absl::Status Remove(ImageId id);
  absl::Status FreeSegmentsOf(ImageId id, ImageTag tag);
  absl::Status CloseImage(ImageCore& core);
  // Everyone who waited for a barrier has been answered on return.
  void SettleBarrier();
  // Answers what waits in an image that ends.
  void AnswerWaiting(ImageCore& core);
  absl::Status StoreInfo(bool clean_stop);
  // Takes what the device has become larger into use; how many segments.
  absl::StatusOr<uint32_t> GrowToDevice();
  // Into the slot with the older version; durable on return.
  absl::Status StoreSuperblock();
  // NotFound if the name is not known.
  absl::StatusOr<ImageId> FindKnown(const std::string& name);
  KnownImage GetKnown(ImageId id);
  void SetKnown(ImageId id, const KnownImage& known);
  uint32_t UnassignedSegments();
  Uuid NewUuid();

  CacheDevice& device_;
  const CacheOptions options_;
  Clock& clock_;
  const Uuid uuid_;
  Barrier barrier_;
  SegmentTable table_;
  const CacheParts parts_;

  // Of who has the turn.
  Superblock superblock_;
  SlotCursor superblock_cursor_;
  bool superblock_needs_copy_;
  CacheInfo info_;
  SlotCursor info_cursor_;
  std::map<ImageId, SlotCursor> vacant_;  // slots of removed images

  absl::Mutex mutex_;
  bool has_turn_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_closing_ ABSL_GUARDED_BY(mutex_) = false;  // who waits gives up
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  // Changed by who has the turn only. Of an image in service the record here is
  // as it was at attach: ImageCore's counts.
  std::map<ImageId, KnownImage> known_ ABSL_GUARDED_BY(mutex_);
  std::map<ImageId, Served> served_ ABSL_GUARDED_BY(mutex_);
  std::thread committer_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_CACHE_CORE_H_
