// All segments of a cache device: who uses them, which life they are in, what
// holds them, and the checksums of their payload.
//
// A segment is free, payload or log. It is kept from being freed by
// references (keys in the log that name it, allocations on their way to become
// keys, the open cursor) and from being handed out again by pins (someone is
// copying bytes right now). docs/on_media_format.md sections 7 and 9.

#ifndef PCACHEFS_CORE_SEGMENT_TABLE_H_
#define PCACHEFS_CORE_SEGMENT_TABLE_H_

#include <atomic>
#include <cstdint>
#include <array>
#include <deque>
#include <map>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "core/barrier.h"
#include "core/slot_store.h"
#include "iobackend/cache_device.h"
#include "meta/geometry.h"
#include "meta/records.h"
#include "meta/types.h"

namespace pcachefs {

class Segment {
 public:
  Generation generation() const {
    return Generation(generation_.load(std::memory_order_acquire));
  }

  // References; release orders what was done under the reference before the
  // segment can be freed.
  void AddReference(uint32_t count = 1) {
    references_.fetch_add(count, std::memory_order_relaxed);
  }
  // True if that was the last one.
  bool DropReference(uint32_t count = 1) {
    return references_.fetch_sub(count, std::memory_order_acq_rel) == count;
  }
  uint32_t references() const {
    return references_.load(std::memory_order_acquire);
  }

  // Pins are taken under the lock of the shard whose index names the segment
  // and dropped without any.
  void Pin() { pins_.fetch_add(1, std::memory_order_relaxed); }
  void Unpin() { pins_.fetch_sub(1, std::memory_order_release); }
  bool pinned() const { return pins_.load(std::memory_order_acquire) != 0; }

  // Checksums of the payload blocks, by block; only for payload segments. Set
  // by who allocated the block, before the key is published.
  uint32_t* checksums() { return checksums_.get(); }

  // Whether the block holds data that the backing device does not have yet.
  bool dirty(uint32_t block) const {
    return dirty_[block / 64].load(std::memory_order_relaxed) >> (block % 64) &
           1;
  }
  void SetDirty(uint32_t first_block, uint32_t count, bool dirty);

  // Marks for reclaim, in memory only. A block that was hit since it was written
  // deserves a second life. A block that was read ahead is not hit by its first
  // reader, for whom it was read: he takes that mark away.
  //
  // Notes a hit, for callers with a pin; blocks that were read ahead and are
  // used only now. Writes nothing if all marks stand already.
  uint32_t MarkHit(uint32_t first_block, uint32_t count);
  bool hit(uint32_t block) const {
    return marks_[block / 64].hit.load(std::memory_order_relaxed) >>
               (block % 64) &
           1;
  }
  void MarkReadAhead(uint32_t first_block, uint32_t count);
  // Blocks that were read ahead and never used.
  uint32_t CountUnused(uint32_t first_block, uint32_t count) const;

 private:
  friend class SegmentTable;

  // Of 64 blocks; side by side, since a first hit looks at both.
  struct Marks {
    std::atomic<uint64_t> hit{0};
    std::atomic<uint64_t> ahead{0};
  };

  std::atomic<uint32_t> generation_{0};
  std::atomic<uint32_t> references_{0};
  std::atomic<uint32_t> pins_{0};
  std::unique_ptr<uint32_t[]> checksums_;
  std::unique_ptr<std::atomic<uint64_t>[]> dirty_;
  std::unique_ptr<Marks[]> marks_;
  // Guarded by the table's mutex.
  SegmentRecord record_;
  SlotCursor cursor_;
  bool has_copy_ = true;  // both slots say what record_ does
};

// Thread-safe. Device, geometry and barrier outlive it.
class SegmentTable {
 public:
  SegmentTable(CacheDevice& device, const Geometry& geometry,
               Barrier& barrier);

  // Reads all records; writes nothing. A record with both slots damaged is
  // DataLoss. StoreCopies mends those with one.
  absl::Status Load();

  // Frees segments whose owner `is_known` does not know, each in a new life
  // (C2): they may be handed out after the next barrier.
  absl::Status FreeOrphans(
      const std::function<bool(ImageId, ImageTag)>& is_known);

  // Requires: id < segment_count.
  Segment& segment(SegmentId id) {
    return chunks_[id.value() / kChunk][id.value() % kChunk];
  }
  SegmentRecord record(SegmentId id);

  // Takes a free segment and stores its new use, without a barrier: the commit
  // of the first key that names it makes it durable. ResourceExhausted if none
  // is free; errors of the device.
  absl::StatusOr<SegmentId> Allocate(SegmentUse use, ImageId owner,
                                     ImageTag image,
                                     SequenceNumber first_sequence);

  // Two steps of freeing: StoreFreed writes the next generation (not yet
  // durable); after a barrier Release hands the segments out again (C2).
  // Requires for both: no references, no pins, not yet freed.
  absl::Status StoreFreed(SegmentId id);
  void Release(std::span<const SegmentId> ids);

  // Stores some records that are durable in one slot only into the other one
  // too, so that one damaged slot costs nothing: its older version would be of
  // another life. Background work; false if there was none. A failure leaves
  // the durable version.
  bool StoreCopies();

  // Segments that records give to this image: at attach, before replay.
  std::vector<SegmentId> OwnedBy(ImageId owner, ImageTag image);

  // Drops what memory holds of segments whose image is not in service any more
  // (references, checksums, dirty marks), so that a replay can begin anew.
  void Forget(std::span<const SegmentId> ids);

  // Gives a payload segment its checksum array; once per life.
  void PreparePayload(SegmentId id);

  uint32_t free_count();
  // How many segments records give to each owner.
  std::map<ImageId, uint32_t> UsedByOwner();
  uint32_t segment_count() const { return geometry().segment_count(); }
  const Geometry& geometry() const {
    return *geometry_.load(std::memory_order_acquire);
  }

  // Two steps of growing to a geometry of the same cache with more segments:
  // StoreNewRecords writes their records, not yet durable. Grow hands them out;
  // before that the superblock must tell of them, durably. One caller at a
  // time.
  absl::Status StoreNewRecords(const Geometry& grown);
  void Grow(const Geometry& grown);

 private:
  // Segments stay where they are when more are added, for they are looked up
  // without a lock: in chunks, in an array that is large enough for ever.
  static constexpr uint32_t kChunk = 1024;
  static constexpr int kCopiesAtOnce = 64;

  std::array<MediaOffset, 2> Slots(SegmentId id) const {
    return {geometry().segment_record(id, 0), geometry().segment_record(id, 1)};
  }
  void MakeChunks(uint32_t segment_count);
  // Never fails: what cannot be read becomes no valid record.
  void ReadTable(MediaOffset offset, std::span<std::byte> table);
  absl::Status StoreLocked(SegmentId id, const SegmentRecord& record)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteUncopiedLocked(SegmentId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  CacheDevice& device_;
  Barrier& barrier_;
  // Of all sizes that the cache had; the last one counts.
  std::deque<Geometry> geometries_;
  std::atomic<const Geometry*> geometry_;
  std::vector<std::unique_ptr<Segment[]>> chunks_;
  absl::Mutex mutex_;
  std::deque<SegmentId> free_ ABSL_GUARDED_BY(mutex_);  // oldest first
  // Those without a copy, each once.
  std::deque<SegmentId> uncopied_ ABSL_GUARDED_BY(mutex_);
};

// Keeps a segment from being handed out again while bytes are copied.
class SegmentPin {
 public:
  SegmentPin() = default;
  // Takes over a pin that was already counted.
  explicit SegmentPin(Segment* pinned) : segment_(pinned) {}
  SegmentPin(SegmentPin&& other) noexcept
      : segment_(std::exchange(other.segment_, nullptr)) {}
  SegmentPin& operator=(SegmentPin&& other) noexcept {
    std::swap(segment_, other.segment_);
    return *this;
  }
  ~SegmentPin() {
    if (segment_ != nullptr) segment_->Unpin();
  }

 private:
  Segment* segment_ = nullptr;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_SEGMENT_TABLE_H_
