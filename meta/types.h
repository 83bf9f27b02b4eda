// The vocabulary of the on-media format: offsets, ranges and identities that
// cannot be mixed up.
//
// A position in the image (ImageOffset), on the cache device (MediaOffset) and
// within a segment (SegmentOffset) are different types; only meta/geometry.h
// converts between the latter two.

#ifndef PCACHEFS_META_TYPES_H_
#define PCACHEFS_META_TYPES_H_

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <utility>

#include "meta/units.h"

namespace pcachefs {

// A number that is only comparable with its own kind.
template <typename Tag, typename Number>
class StrongNumber {
 public:
  using Raw = Number;

  constexpr StrongNumber() = default;
  constexpr explicit StrongNumber(Number value) : value_(value) {}

  constexpr Number value() const { return value_; }

  friend constexpr auto operator<=>(StrongNumber, StrongNumber) = default;

  template <typename H>
  friend H AbslHashValue(H h, StrongNumber number) {
    return H::combine(std::move(h), number.value_);
  }

  friend std::ostream& operator<<(std::ostream& out, StrongNumber number) {
    return out << number.value_;
  }

 private:
  Number value_ = 0;
};

// A position: differences are lengths in bytes, sums of positions do not exist.
template <typename Tag, typename Number>
class StrongOffset : public StrongNumber<Tag, Number> {
 public:
  using StrongNumber<Tag, Number>::StrongNumber;

  friend constexpr StrongOffset operator+(StrongOffset offset, Number length) {
    return StrongOffset(offset.value() + length);
  }
  friend constexpr StrongOffset operator-(StrongOffset offset, Number length) {
    return StrongOffset(offset.value() - length);
  }
  friend constexpr Number operator-(StrongOffset end, StrongOffset begin) {
    return end.value() - begin.value();
  }
  constexpr StrongOffset& operator+=(Number length) {
    return *this = *this + length;
  }
};

// Bytes from the start of the image.
using ImageOffset = StrongOffset<struct ImageOffsetTag, uint64_t>;
// Bytes from the start of the cache device.
using MediaOffset = StrongOffset<struct MediaOffsetTag, uint64_t>;
// Bytes from the start of a segment.
using SegmentOffset = StrongOffset<struct SegmentOffsetTag, uint32_t>;

// Index of a segment on the cache device.
using SegmentId = StrongNumber<struct SegmentIdTag, uint32_t>;
// Number of a segment's life; 0 means never used.
using Generation = StrongNumber<struct GenerationTag, uint32_t>;
// Number of a key set in its image's log, from 1, without gaps.
using SequenceNumber = StrongOffset<struct SequenceNumberTag, uint64_t>;
// How often the log of an image was opened for append.
using Incarnation = StrongNumber<struct IncarnationTag, uint32_t>;
// Index of an image's record in the image table.
using ImageId = StrongNumber<struct ImageIdTag, uint32_t>;
// First 8 bytes of an image's UUID, little-endian: marks what belongs to it.
using ImageTag = StrongNumber<struct ImageTagTag, uint64_t>;

// Largest payload of one key.
inline constexpr uint64_t kMaxKeyPayload = kMiB;

// Largest image: a key's offset has 48 bits and counts sectors.
inline constexpr uint64_t kMaxImageSize = kSectorSize << 48;

// A piece of the image, [offset, offset + length).
struct ImageRange {
  ImageOffset offset;
  uint64_t length = 0;

  constexpr ImageOffset end() const { return offset + length; }
  constexpr bool empty() const { return length == 0; }
  constexpr bool Overlaps(const ImageRange& other) const {
    return offset < other.end() && other.offset < end();
  }
  constexpr bool Contains(const ImageRange& other) const {
    return offset <= other.offset && other.end() <= end();
  }
  friend constexpr bool operator==(const ImageRange&,
                                   const ImageRange&) = default;
  friend std::ostream& operator<<(std::ostream& out, const ImageRange& range) {
    return out << '[' << range.offset << ", +" << range.length << ')';
  }
};

// A place in a segment of the cache device.
struct CachePosition {
  SegmentId segment;
  SegmentOffset offset;

  friend constexpr auto operator<=>(const CachePosition&,
                                    const CachePosition&) = default;
  friend std::ostream& operator<<(std::ostream& out,
                                  const CachePosition& position) {
    return out << position.segment << ':' << position.offset;
  }
};

// A place in an image's log: of the key set numbered `sequence`.
struct LogPosition {
  SegmentId segment;
  SegmentOffset offset;
  Generation generation;
  SequenceNumber sequence;

  friend constexpr bool operator==(const LogPosition&,
                                   const LogPosition&) = default;
  friend std::ostream& operator<<(std::ostream& out,
                                  const LogPosition& position) {
    return out << position.segment << ':' << position.offset << '#'
               << position.sequence;
  }
};

struct Uuid {
  std::array<uint8_t, 16> bytes = {};

  // "8-4-4-4-12" in lower-case hexadecimal.
  std::string ToString() const;
  ImageTag tag() const;
  bool is_nil() const { return *this == Uuid{}; }

  friend bool operator==(const Uuid&, const Uuid&) = default;
};

}  // namespace pcachefs

#endif  // PCACHEFS_META_TYPES_H_
