// Where things stand on a cache device: docs/on_media_format.md section 1.
// The only place with media arithmetic. Immutable value; thread-safe.

#ifndef PCACHEFS_META_GEOMETRY_H_
#define PCACHEFS_META_GEOMETRY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {

inline constexpr uint64_t kMinSegmentSize = kMiB;
inline constexpr uint64_t kMaxSegmentSize = 64 * kMiB;
inline constexpr uint64_t kDefaultSegmentSize = 16 * kMiB;
inline constexpr uint32_t kMinSegmentCount = 16;
inline constexpr uint32_t kMaxSegmentCount = 1u << 24;
// A cache device gets at least so many segments if its size allows it.
inline constexpr uint32_t kWantedSegmentCount = 64;

inline constexpr uint64_t kSuperblockSlotSize = 4096;
inline constexpr uint64_t kSegmentRecordSize = 64;

class Geometry {
 public:
  // The layout of a device of `device_size` bytes. `segment_size` 0 chooses:
  // 16 MiB, or less so that there are at least kWantedSegmentCount segments.
  // InvalidArgument, naming got and wanted, if segment_size is not a power of
  // two in range or fewer than kMinSegmentCount segments fit.
  static absl::StatusOr<Geometry> ForDevice(uint64_t device_size,
                                            uint64_t segment_size);

  // The layout that a superblock's numbers describe; DataLoss, naming the
  // field, if they contradict the rules of the format or each other.
  struct Stored {
    uint64_t device_size = 0;
    uint32_t segment_size = 0;
    uint32_t segment_count = 0;
    uint32_t segment_capacity = 0;
    uint32_t image_slots = 0;
    uint64_t segment_table_offset = 0;
    uint64_t segment_table_stride = 0;
    uint64_t segments_offset = 0;
  };
  static absl::StatusOr<Geometry> FromStored(const Stored& stored);
  const Stored& stored() const { return stored_; }

  // The same layout for a device that has grown: more segments, nothing moved.
  // InvalidArgument if the device is smaller than before; segments beyond
  // segment_capacity are left out.
  absl::StatusOr<Geometry> Grown(uint64_t device_size) const;

  uint64_t device_size() const { return stored_.device_size; }
  uint32_t segment_size() const { return stored_.segment_size; }
  uint32_t segment_count() const { return stored_.segment_count; }
  uint32_t segment_capacity() const { return stored_.segment_capacity; }
  uint32_t image_slots() const { return stored_.image_slots; }
  uint32_t blocks_per_segment() const {
    return stored_.segment_size / kBlockSize;
  }

  // `slot` is 0 or 1 throughout.
  MediaOffset superblock(int slot) const;
  MediaOffset cache_info(int slot) const;
  // Requires: id < image_slots().
  MediaOffset image_record(ImageId id, int slot) const;
  MediaOffset log_tails(ImageId id, int slot) const;
  // Requires: id < segment_capacity().
  MediaOffset segment_record(SegmentId id, int slot) const;
  // Start of copy 0 or 1 of the table; its used bytes.
  MediaOffset segment_table(int slot) const;
  uint64_t segment_table_bytes() const {
    return segment_count() * kSegmentRecordSize;
  }
  // Requires: position.segment < segment_count(), offset <= segment_size().
  MediaOffset position(CachePosition position) const;

  // Byte count of the metadata in front of the first segment.
  uint64_t metadata_bytes() const { return stored_.segments_offset; }

 private:
  explicit Geometry(const Stored& stored) : stored_(stored) {}

  Stored stored_;
};

// Superblock slots stand at fixed offsets, known before any geometry is.
constexpr MediaOffset SuperblockOffset(int slot) {
  return MediaOffset(slot * kSuperblockSlotSize);
}

}  // namespace pcachefs

#endif  // PCACHEFS_META_GEOMETRY_H_
