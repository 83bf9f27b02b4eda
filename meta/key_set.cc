#include "meta/key_set.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "meta/crc32c.h"
#include "meta/endian.h"
#include "meta/geometry.h"
#include "meta/record_field.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

constexpr size_t kCrcBegin = 4;
constexpr size_t kKeySize = 24;  // without checksums
constexpr size_t kCrcSize = 4;
constexpr uint16_t kMaxKeyCount = 2047;
constexpr uint8_t kFlagBeginsEpoch = 1;
constexpr uint8_t kFlagLink = 2;
// The 24-bit durable distance shares a word with the flags, above them.
constexpr int kDistanceShift = 8;
constexpr uint64_t kDistanceNotTold = 0xffffff;
// The kind of a key shares a word with the 48-bit offset, above it.
constexpr int kKindShift = 48;
constexpr uint64_t kOffsetMask = (uint64_t{1} << kKindShift) - 1;
static_assert(kLinkSetSize == kKeySetHeaderSize + kKeySize);

// A key as it stands in the set, its numbers not yet believed.
struct RawKey {
  uint8_t kind;
  uint64_t offset;  // sectors
  uint32_t length;  // sectors
  uint32_t segment;
  uint32_t block;  // offset in the segment, blocks
  uint32_t generation;
};

RawKey LoadKey(std::span<const std::byte> key) {
  const auto first_word = LoadLittle<uint64_t>(key, 0);
  return {
      .kind = static_cast<uint8_t>(first_word >> kKindShift),
      .offset = first_word & kOffsetMask,
      .length = LoadLittle<uint32_t>(key, 8),
      .segment = LoadLittle<uint32_t>(key, 12),
      .block = LoadLittle<uint32_t>(key, 16),
      .generation = LoadLittle<uint32_t>(key, 20),
  };
}

// What a well-formed set is checked against.
struct Bounds {
  uint64_t image_sectors;
  uint32_t segment_count;
  uint32_t blocks_per_segment;
};

uint64_t PayloadBlocks(const RawKey& key) {
  return HasPayload(static_cast<KeyKind>(key.kind))
             ? DivideRoundingUp(uint64_t{key.length} * kSectorSize, kBlockSize)
             : 0;
}

bool RangeFits(const RawKey& key, const Bounds& bounds) {
  // 48 bits plus 32 bits: no overflow.
  return key.length >= 1 && key.offset + key.length <= bounds.image_sectors;
}

bool PayloadFits(const RawKey& key, const Bounds& bounds) {
  return key.length <= kMaxKeyPayload / kSectorSize &&
         key.segment < bounds.segment_count && key.generation >= 1 &&
         key.block + PayloadBlocks(key) <= bounds.blocks_per_segment;
}

// The fast answer; what exactly is wrong is told by KeyError.
bool KeyFits(const RawKey& key, const Bounds& bounds) {
  switch (static_cast<KeyKind>(key.kind)) {
    case KeyKind::kWrite:
    case KeyKind::kFill:
    case KeyKind::kProvisional:
      return RangeFits(key, bounds) && PayloadFits(key, bounds);
    case KeyKind::kZero:
    case KeyKind::kDiscard:
    case KeyKind::kForget:
    case KeyKind::kLost:
      return RangeFits(key, bounds) &&
             (key.segment | key.block | key.generation) == 0;
    case KeyKind::kLink:
      return (key.offset | key.length | key.block) == 0 &&
             key.segment < bounds.segment_count && key.generation >= 1;
  }
  return false;
}

absl::Status KeyFieldError(SequenceNumber sequence, uint32_t index,
                           absl::string_view field, uint64_t got,
                           absl::string_view wanted) {
  return absl::DataLossError(absl::StrCat("key set ", sequence.value(),
                                          ": key ", index, ": ", field,
                                          ": got ", got, ", want ", wanted));
}

// Requires: !KeyFits(key, bounds).
absl::Status KeyError(const RawKey& key, const Bounds& bounds,
                      SequenceNumber sequence, uint32_t index) {
  const auto error = [&](absl::string_view field, uint64_t got,
                         absl::string_view wanted) {
    return KeyFieldError(sequence, index, field, got, wanted);
  };
  const auto kind = static_cast<KeyKind>(key.kind);
  if (key.kind < static_cast<uint8_t>(KeyKind::kWrite) ||
      key.kind > static_cast<uint8_t>(KeyKind::kProvisional)) {
    return error("kind", key.kind, "1 to 8");
  }
  if (kind == KeyKind::kLink) {
    if (key.offset != 0)
      return error("image offset of a link", key.offset, "0");
    if (key.length != 0) return error("length of a link", key.length, "0");
    if (key.block != 0) return error("block of a link", key.block, "0");
  } else {
    if (key.length == 0) return error("length in sectors", 0, "at least 1");
    if (!RangeFits(key, bounds)) {
      return error("end in sectors", key.offset + key.length,
                   absl::StrCat("at most ", bounds.image_sectors,
                                ", the size of the image"));
    }
    if (!HasPayload(kind)) {
      if (key.segment != 0) return error("segment", key.segment, "0");
      if (key.block != 0) return error("block", key.block, "0");
      return error("generation", key.generation, "0");
    }
    if (key.length > kMaxKeyPayload / kSectorSize) {
      return error("length in sectors", key.length,
                   absl::StrCat("at most ", kMaxKeyPayload / kSectorSize));
    }
  }
  if (key.segment >= bounds.segment_count) {
    return error("segment", key.segment,
                 absl::StrCat("less than ", bounds.segment_count));
  }
  if (key.generation == 0) return error("generation", 0, "at least 1");
  return error("end in blocks", key.block + PayloadBlocks(key),
               absl::StrCat("at most ", bounds.blocks_per_segment,
                            ", the size of a segment"));
}

// Checks that `set`, header included, is keys and nothing else.
absl::Status CheckKeys(std::span<const std::byte> set,
                       const KeySetHeader& header, const Bounds& bounds) {
  size_t offset = kKeySetHeaderSize;
  for (uint32_t index = 0; index < header.key_count; ++index) {
    const size_t left = set.size() - offset;
    if (left < kKeySize) {
      return KeyFieldError(header.sequence, index, "bytes left in the set",
                           left, absl::StrCat("at least ", kKeySize));
    }
    const RawKey key = LoadKey(set.subspan(offset));
    if (!KeyFits(key, bounds)) {
      return KeyError(key, bounds, header.sequence, index);
    }
    const bool is_link = key.kind == static_cast<uint8_t>(KeyKind::kLink);
    if (is_link != header.is_link || (is_link && header.key_count != 1)) {
      return KeyFieldError(header.sequence, index, "kind", key.kind,
                           "a link as the only key of a link set, and there "
                           "only");
    }
    // PayloadFits has bounded the count of blocks.
    const size_t size =
        EncodedKeySize(static_cast<uint32_t>(PayloadBlocks(key)));
    if (size > left) {
      return KeyFieldError(header.sequence, index, "bytes left in the set",
                           left, absl::StrCat("at least ", size));
    }
    offset += size;
  }
  if (offset == set.size()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "key set ", header.sequence.value(), ": length: got ", set.size(),
      ", want ", offset, " for its ", header.key_count, " keys"));
}

// The header at the start of `bytes`, if it could be that of a set which ends
// within them. Nothing of it is checked beyond that; the CRC is not.
bool LoadHeader(std::span<const std::byte> bytes, KeySetHeader& header) {
  if (bytes.size() < kKeySetHeaderSize) return false;
  header.length = LoadLittle<uint16_t>(bytes, 4) * uint32_t{kKeySetAlignment};
  header.key_count = LoadLittle<uint16_t>(bytes, 6);
  if (header.length < kKeySetHeaderSize + kKeySize ||
      header.length > std::min(bytes.size(), kMaxKeySetSize) ||
      header.key_count < 1 || header.key_count > kMaxKeyCount) {
    return false;
  }
  header.sequence = SequenceNumber(LoadLittle<uint64_t>(bytes, 8));
  header.incarnation = Incarnation(LoadLittle<uint32_t>(bytes, 16));
  const auto flags = LoadLittle<uint32_t>(bytes, 20);
  header.begins_epoch = (flags & kFlagBeginsEpoch) != 0;
  header.is_link = (flags & kFlagLink) != 0;
  // A distance of the whole log or more says nothing about any set.
  const uint64_t distance = flags >> kDistanceShift;
  header.durable =
      distance == kDistanceNotTold || distance >= header.sequence.value()
          ? SequenceNumber(0)
          : header.sequence - distance;
  header.image = ImageTag(LoadLittle<uint64_t>(bytes, 24));
  return true;
}

bool CrcFits(std::span<const std::byte> set) {
  return Crc32c(set.subspan(kCrcBegin)) == LoadLittle<uint32_t>(set, 0);
}

// Without a message, so that it costs no allocation: the search behind the end
// of a log asks at every multiple of 8.
absl::Status NoKeySet() { return {absl::StatusCode::kNotFound, ""}; }

absl::Status NoExpectedKeySet(SequenceNumber sequence) {
  return absl::NotFoundError(
      absl::StrCat("key set ", sequence.value(), ": no valid set here"));
}

}  // namespace

const char* Name(KeyKind kind) {
  switch (kind) {
    case KeyKind::kWrite:
      return "write";
    case KeyKind::kFill:
      return "fill";
    case KeyKind::kZero:
      return "zero";
    case KeyKind::kDiscard:
      return "discard";
    case KeyKind::kLink:
      return "link";
    case KeyKind::kForget:
      return "forget";
    case KeyKind::kLost:
      return "lost";
    case KeyKind::kProvisional:
      return "provisional";
  }
  return "unknown";
}

KeySetBuilder::KeySetBuilder(std::span<std::byte> buffer)
    : buffer_(buffer.first(std::min(buffer.size(), kMaxKeySetSize))) {
  ABSL_HARDENING_ASSERT(buffer.size() >= kKeySetHeaderSize);
}

bool KeySetBuilder::Add(const Key& key, std::span<const uint32_t> crcs) {
  ABSL_HARDENING_ASSERT(crcs.size() == pcachefs::PayloadBlocks(key));
  ABSL_HARDENING_ASSERT(key.range.offset.value() < kMaxImageSize);
  ABSL_HARDENING_ASSERT(
      IsAligned(key.range.offset.value() | key.range.length, kSectorSize));
  ABSL_HARDENING_ASSERT(IsAligned(key.position.offset.value(), kBlockSize));
  const size_t key_size = EncodedKeySize(static_cast<uint32_t>(crcs.size()));
  if (key_count_ == kMaxKeyCount || key_size > buffer_.size() - size_) {
    return false;
  }
  const std::span<std::byte> encoded = buffer_.subspan(size_, key_size);
  StoreLittle<uint64_t>(
      encoded, 0,
      key.range.offset.value() / kSectorSize |
          uint64_t{static_cast<uint8_t>(key.kind)} << kKindShift);
  StoreLittle<uint32_t>(encoded, 8,
                        static_cast<uint32_t>(key.range.length / kSectorSize));
  StoreLittle<uint32_t>(encoded, 12, key.position.segment.value());
  StoreLittle<uint32_t>(
      encoded, 16,
      static_cast<uint32_t>(key.position.offset.value() / kBlockSize));
  StoreLittle<uint32_t>(encoded, 20, key.generation.value());
  size_t offset = kKeySize;
  for (const uint32_t crc : crcs) {
    StoreLittle<uint32_t>(encoded, offset, crc);
    offset += kCrcSize;
  }
  if (offset < key_size) StoreLittle<uint32_t>(encoded, offset, 0);
  size_ += key_size;
  ++key_count_;
  return true;
}

std::span<const std::byte> KeySetBuilder::Seal(const KeySetHeader& header) {
  ABSL_HARDENING_ASSERT(!empty());
  ABSL_HARDENING_ASSERT(header.durable <= header.sequence);
  const std::span<std::byte> set = buffer_.first(size_);
  uint64_t distance = kDistanceNotTold;
  if (header.durable != SequenceNumber(0)) {
    distance = std::min(header.sequence - header.durable, kDistanceNotTold);
  }
  const uint32_t flags = (header.begins_epoch ? kFlagBeginsEpoch : 0) |
                         (header.is_link ? kFlagLink : 0);
  StoreLittle<uint16_t>(set, 4,
                        static_cast<uint16_t>(size_ / kKeySetAlignment));
  StoreLittle<uint16_t>(set, 6, key_count_);
  StoreLittle<uint64_t>(set, 8, header.sequence.value());
  StoreLittle<uint32_t>(set, 16, header.incarnation.value());
  StoreLittle<uint32_t>(
      set, 20, flags | static_cast<uint32_t>(distance << kDistanceShift));
  StoreLittle<uint64_t>(set, 24, header.image.value());
  StoreLittle<uint32_t>(set, 0, Crc32c(set.subspan(kCrcBegin)));
  return set;
}

absl::StatusOr<KeySetView> KeySetView::Parse(std::span<const std::byte> bytes,
                                             const KeySetExpectation& expected,
                                             const Geometry& geometry,
                                             uint64_t image_size) {
  KeySetHeader header;
  if (!LoadHeader(bytes, header) || header.image != expected.image ||
      header.sequence != expected.sequence ||
      header.incarnation < expected.min_incarnation ||
      !CrcFits(bytes.first(header.length))) {
    return NoExpectedKeySet(expected.sequence);
  }
  const std::span<const std::byte> set = bytes.first(header.length);
  const Bounds bounds = {
      .image_sectors = image_size / kSectorSize,
      .segment_count = geometry.segment_count(),
      .blocks_per_segment = geometry.blocks_per_segment(),
  };
  if (header.incarnation > kMaxIncarnation) {
    return absl::DataLossError(
        absl::StrCat("key set ", header.sequence.value(), ": incarnation: got ",
                     header.incarnation.value(), ", want at most ",
                     kMaxIncarnation.value()));
  }
  absl::Status status = CheckKeys(set, header, bounds);
  if (!status.ok()) return status;
  return KeySetView(set, header);
}

absl::StatusOr<KeySetHeader> KeySetView::Probe(std::span<const std::byte> bytes,
                                               ImageTag image) {
  KeySetHeader header;
  if (!LoadHeader(bytes, header) || header.image != image ||
      !CrcFits(bytes.first(header.length))) {
    return NoKeySet();
  }
  return header;
}

bool KeySetView::Cursor::Next() {
  if (offset_ == bytes_.size()) return false;
  // Parse has checked all of this.
  const RawKey raw = LoadKey(bytes_.subspan(offset_));
  key_.kind = static_cast<KeyKind>(raw.kind);
  key_.range.offset = ImageOffset(raw.offset * kSectorSize);
  key_.range.length = uint64_t{raw.length} * kSectorSize;
  key_.position.segment = SegmentId(raw.segment);
  key_.position.offset =
      SegmentOffset(static_cast<uint32_t>(raw.block * kBlockSize));
  key_.generation = Generation(raw.generation);
  crcs_offset_ = offset_ + kKeySize;
  offset_ += EncodedKeySize(pcachefs::PayloadBlocks(key_));
  return true;
}

uint32_t KeySetView::Cursor::crc(uint32_t index) const {
  ABSL_HARDENING_ASSERT(index < pcachefs::PayloadBlocks(key_));
  return LoadLittle<uint32_t>(bytes_, crcs_offset_ + kCrcSize * index);
}

}  // namespace pcachefs
