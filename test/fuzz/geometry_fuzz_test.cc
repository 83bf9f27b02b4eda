// Feeds numbers to the constructors of Geometry. What is accepted must have its
// areas one behind the other within the device.
//
// Input: the fields of Geometry::Stored in their order, then the size that the
// device grows to; missing bytes count as zeros.

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "meta/endian.h"
#include "meta/geometry.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/fuzz/require.h"

namespace pcachefs {
namespace {

void CheckAreas(const Geometry& geometry) {
  const ImageId last_image(geometry.image_slots() - 1);
  const SegmentId last_record(geometry.segment_capacity() - 1);
  const SegmentId last_segment(geometry.segment_count() - 1);
  const auto first = geometry.position({SegmentId(0), SegmentOffset(0)});
  const auto end =
      geometry.position({last_segment, SegmentOffset(geometry.segment_size())});
  for (const int slot : {0, 1}) {
    Require(geometry.superblock(slot) < geometry.cache_info(0), "superblock");
    Require(geometry.cache_info(slot) < geometry.image_record(ImageId(0), 0),
            "cache info");
    Require(geometry.log_tails(last_image, slot) + kBlockSize <=
                geometry.segment_table(0),
            "image table");
  }
  Require(geometry.segment_record(last_record, 0) + kSegmentRecordSize <=
              geometry.segment_table(1),
          "copy A of the segment table");
  Require(geometry.segment_record(last_record, 1) + kSegmentRecordSize <= first,
          "copy B of the segment table");
  Require(geometry.metadata_bytes() == first.value(), "metadata size");
  Require(end.value() <= geometry.device_size(), "segments");
  Require(geometry.segment_count() <= geometry.segment_capacity() &&
              geometry.segment_count() >= kMinSegmentCount,
          "segment count");
}

void CheckGrown(const Geometry& before, uint64_t device_size) {
  const auto after = before.Grown(device_size);
  if (!after.ok()) return;
  CheckAreas(*after);
  Require(Geometry::FromStored(after->stored()).ok(), "growth keeps the rules");
  Require(after->segment_count() >= before.segment_count(), "growth");
  Require(after->metadata_bytes() == before.metadata_bytes(), "nothing moved");
}

}  // namespace
}  // namespace pcachefs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pcachefs;  // NOLINT: the function must be outside
  ByteReader reader(std::as_bytes(std::span(data, size)));
  Geometry::Stored stored;
  stored.device_size = reader.Read<uint64_t>();
  stored.segment_size = reader.Read<uint32_t>();
  stored.segment_count = reader.Read<uint32_t>();
  stored.segment_capacity = reader.Read<uint32_t>();
  stored.image_slots = reader.Read<uint32_t>();
  stored.segment_table_offset = reader.Read<uint64_t>();
  stored.segment_table_stride = reader.Read<uint64_t>();
  stored.segments_offset = reader.Read<uint64_t>();
  const auto grown_size = reader.Read<uint64_t>();

  const auto from_stored = Geometry::FromStored(stored);
  if (from_stored.ok()) {
    CheckAreas(*from_stored);
    CheckGrown(*from_stored, grown_size);
  }
  const auto for_device =
      Geometry::ForDevice(stored.device_size, stored.segment_size);
  if (for_device.ok()) {
    CheckAreas(*for_device);
    CheckGrown(*for_device, grown_size);
    Require(Geometry::FromStored(for_device->stored()).ok(),
            "a new layout is accepted");
  }
  return 0;
}
