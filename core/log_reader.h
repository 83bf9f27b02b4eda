// Walks the key sets of an image's log from a position, over links.
//
// The one decoder of the log for writeback, reclaim, replay, check and dump.
// Not thread-safe. Reading what is being appended at the same time is fine up
// to the last set that was complete before Next was called.

#ifndef PCACHEFS_CORE_LOG_READER_H_
#define PCACHEFS_CORE_LOG_READER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/segment_table.h"
#include "iobackend/cache_device.h"
#include "meta/geometry.h"
#include "meta/key_set.h"
#include "meta/types.h"

namespace pcachefs {

class LogReader {
 public:
  struct Start {
    ImageTag image;
    uint64_t image_size = 0;  // bytes, bounds of the keys' ranges
    LogPosition position;
    Incarnation min_incarnation;
  };

  // `device` and `segments` outlive the reader.
  LogReader(CacheDevice& device, SegmentTable& segments, const Start& start);

  // The set at position(), which then moves behind it; for a link set to the
  // start of the next log segment. The view is valid until the next call.
  // When it fails, position() and incarnation() stay. NotFound: no valid set
  // stands here. FailedPrecondition: a link stands here whose target's record
  // does not know of it: at the unproven end of the log the record was lost,
  // elsewhere it is damage. DataLoss: a set stands here that no crash explains.
  // Errors of the device.
  absl::StatusOr<KeySetView> Next();

  const LogPosition& position() const { return position_; }
  Incarnation incarnation() const { return incarnation_; }

  // The largest sequence number that a set of this image, numbered at least
  // `expected` and standing in `segment` at or behind `offset`, proves durable;
  // 0 if none does. Tells damage in the middle of the log from its torn end.
  static absl::StatusOr<SequenceNumber> FindProofOfDurability(
      CacheDevice& device, const Geometry& geometry, ImageTag image,
      CachePosition from, SequenceNumber expected);

 private:
  // Bytes at position(), at least `wanted` or up to the segment's end; from the
  // buffer if it holds them and `refresh` is not set.
  absl::StatusOr<std::span<const std::byte>> Bytes(size_t wanted,
                                                   bool refresh);
  absl::StatusOr<KeySetView> ParseHere(bool refresh);
  absl::Status FollowLink(const KeySetView& view);

  CacheDevice& device_;
  SegmentTable& segments_;
  const ImageTag image_;
  const uint64_t image_size_;
  LogPosition position_;
  Incarnation incarnation_;

  std::vector<std::byte> buffer_;
  // What buffer_ holds: bytes of position_.segment from this offset.
  std::optional<uint32_t> buffered_from_;
  uint32_t buffered_segment_ = 0;
  size_t buffered_length_ = 0;
  size_t read_size_ = 0;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_LOG_READER_H_
