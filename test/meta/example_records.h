// One value of every record, each field different from every other and from
// its default, so that a golden test notices fields that change places.

#ifndef PCACHEFS_TEST_META_EXAMPLE_RECORDS_H_
#define PCACHEFS_TEST_META_EXAMPLE_RECORDS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "meta/geometry.h"
#include "meta/key_set.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {

inline Uuid ExampleUuid(uint8_t first_byte) {
  Uuid uuid;
  for (size_t i = 0; i < uuid.bytes.size(); ++i) {
    uuid.bytes[i] = static_cast<uint8_t>(first_byte + i);
  }
  return uuid;
}

inline Superblock ExampleSuperblock() {
  return {
      .uuid = ExampleUuid(0xc0),
      .geometry = Geometry::ForDevice(10 * kGiB, 0)->stored(),
      .format_time = 0x68123456,
  };
}

inline CacheInfo ExampleCacheInfo() {
  return {
      .clean_stop = true,
      .gc_percent = 65,
      .start_count = 0x0102030405060708,
      .label = "r\xc3\xa9serve",
  };
}

inline ImageRecord ExampleImageRecord() {
  return {
      .state = ImageState::kDetached,
      .mode = CacheMode::kWritethrough,
      .order = WritebackOrder::kRelaxed,
      .gc_percent = 90,
      .read_only_backing = true,
      .uuid = ExampleUuid(0xa0),
      .size = 0x1122334400,
      .share_segments = 0x21222324,
      .incarnation = Incarnation(0x31323334),
      .create_time = 0x68654321,
      .name = "vm-1.root",
      .backing =
          {
              .kind = BackingKind::kNbd,
              .size = 0x4142434445464748,
              .text = "ino=12,fsid=34",
          },
      .backing_spec = "nbd://host/export",
      .max_dirty = 0x5152535455565758,
      .writeback_rate_floor = 0x6162636465666768,
      .writeback_rate_ceiling = 0x7172737475767778,
      .sequential_cutoff = 0x8182838485868788,
      .max_dirty_age = 0x91929394,
  };
}

inline LogTails ExampleLogTails() {
  return {
      .image = ExampleUuid(0xa0).tag(),
      .key_tail = {SegmentId(3), SegmentOffset(0x1008), Generation(5),
                   SequenceNumber(0x1000)},
      .dirty_tail = {SegmentId(7), SegmentOffset(0x2010), Generation(9),
                     SequenceNumber(0x2000)},
      .key_head = {SegmentId(11), SegmentOffset(0x3018), Generation(13),
                   SequenceNumber(0x3000)},
      .committed = SequenceNumber(0x2fff),
      .clean_stop = true,
  };
}

inline SegmentRecord ExampleSegmentRecord() {
  return {
      .generation = Generation(13),
      .use = SegmentUse::kLog,
      .owner = ImageId(2),
      .image = ExampleUuid(0xa0).tag(),
      .first_sequence = SequenceNumber(0x2f00),
  };
}

// The checksum that the only key of ExampleKeySet carries.
inline constexpr uint32_t kExamplePayloadCrc = 0x600df00d;

inline Key ExampleKey() {
  return {
      .kind = KeyKind::kWrite,
      .range = {ImageOffset(0x123456 * kSectorSize), 4096},
      .position = {SegmentId(5), SegmentOffset(3 * kBlockSize)},
      .generation = Generation(7),
  };
}

inline KeySetHeader ExampleKeySetHeader() {
  return {
      .sequence = SequenceNumber(0x1001),
      .incarnation = Incarnation(2),
      .begins_epoch = true,
      .image = ExampleUuid(0xa0).tag(),
      .durable = SequenceNumber(0xfff),
  };
}

// A set of one key, 64 bytes.
inline std::vector<std::byte> ExampleKeySet() {
  std::vector<std::byte> buffer(64);
  KeySetBuilder builder(buffer);
  if (!builder.Add(ExampleKey(), std::span(&kExamplePayloadCrc, 1))) return {};
  builder.Seal(ExampleKeySetHeader());
  return buffer;
}

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_META_EXAMPLE_RECORDS_H_
