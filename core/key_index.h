// Which part of the image is where: an extent map, newest wins.
//
// Holds, for one shard of the image, disjoint pieces of image ranges and where
// each is served from. Pure: no locks, no I/O, no clock, no segments; the owner
// serialises calls (core/shard.h).
//
// Memory: a B-tree entry of 12 bytes per piece; neighbours that continue each
// other in the image and in the same segment are one piece.

#ifndef PCACHEFS_CORE_KEY_INDEX_H_
#define PCACHEFS_CORE_KEY_INDEX_H_

#include <cstdint>

#include "absl/container/btree_map.h"
#include "absl/functional/function_ref.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {

// Where a piece is served from: payload of a segment, or a marker that names
// the key set that put it there, so that an older key's end can be told from a
// newer one's. One 48-bit number.
class PieceSource {
 public:
  enum class Kind { kPayload, kZero, kLost };

  static PieceSource Payload(uint64_t media_sector) {
    return PieceSource(media_sector);
  }
  static PieceSource Zero(SequenceNumber sequence) {
    return PieceSource(kZeroMark | (sequence.value() & kMarkedBits));
  }
  static PieceSource Lost(SequenceNumber sequence) {
    return PieceSource(kLostMark | (sequence.value() & kMarkedBits));
  }
  static PieceSource FromRaw(uint64_t raw) { return PieceSource(raw); }

  Kind kind() const {
    if (raw_ < kLostMark) return Kind::kPayload;
    return raw_ < kZeroMark ? Kind::kLost : Kind::kZero;
  }
  // Requires: kind() == kPayload. Sectors from the start of the first segment.
  uint64_t media_sector() const { return raw_; }
  uint64_t raw() const { return raw_; }

  // The source of what lies `sectors` behind the start of this one.
  PieceSource Advanced(uint64_t sectors) const {
    return kind() == Kind::kPayload ? PieceSource(raw_ + sectors) : *this;
  }

  friend bool operator==(PieceSource, PieceSource) = default;

 private:
  static constexpr uint64_t kMarkedBits = (uint64_t{1} << 40) - 1;
  static constexpr uint64_t kLostMark = uint64_t{0xfe} << 40;
  static constexpr uint64_t kZeroMark = uint64_t{0xff} << 40;

  explicit PieceSource(uint64_t raw) : raw_(raw) {}

  uint64_t raw_;
};

// Positions are *local sectors*: numbers that the shard maps image ranges to
// (core/shard.h). A piece never crosses a multiple of kStripeSectors.
inline constexpr uint64_t kStripeSize = 4 * kMiB;
inline constexpr uint32_t kStripeSectors = kStripeSize / kSectorSize;

class KeyIndex {
 public:
  struct Piece {
    uint32_t start = 0;   // local sector
    uint32_t length = 0;  // sectors
    PieceSource source = PieceSource::Payload(0);
  };

  // `segment_sectors`: pieces are joined within a segment only.
  explicit KeyIndex(uint64_t segment_sectors)
      : segment_sectors_(segment_sectors) {}

  // [start, start + length) is served from `source` from now on. Requires: the
  // range does not cross a stripe and is not empty.
  void Insert(uint32_t start, uint32_t length, PieceSource source);

  // Removes whatever covers the range.
  void Remove(uint32_t start, uint32_t length);

  // Removes those parts of the range that are served from `source`, the source
  // of `start`: what a key at that place still covers when it is reclaimed. The
  // number of sectors removed.
  uint32_t RemoveIfFrom(uint32_t start, uint32_t length, PieceSource source);

  // Calls `visit` for each piece that overlaps the range, trimmed to it, in
  // order.
  void Visit(uint32_t start, uint32_t length,
             absl::FunctionRef<void(const Piece&)> visit) const;

  bool empty() const { return pieces_.empty(); }
  uint64_t piece_count() const { return pieces_.size(); }
  // Sectors covered by payload pieces.
  uint64_t payload_sectors() const { return payload_sectors_; }
  uint64_t lost_sectors() const { return lost_sectors_; }

  // Every piece, for checks.
  void VisitAll(absl::FunctionRef<void(const Piece&)> visit) const;

 private:
  // 8 bytes that need only 4-byte alignment: with the start, 12 per entry.
  struct Packed {
    uint32_t low;
    uint32_t high_and_length;  // source bits 32..47, then length - 1

    Packed(uint32_t length, PieceSource source)
        : low(static_cast<uint32_t>(source.raw())),
          high_and_length(static_cast<uint32_t>(source.raw() >> 32) |
                          (length - 1) << 16) {}
    uint32_t length() const { return (high_and_length >> 16) + 1; }
    PieceSource source() const {
      return PieceSource::FromRaw(
          low | static_cast<uint64_t>(high_and_length & 0xffff) << 32);
    }
  };
  using Map = absl::btree_map<uint32_t, Packed>;

  // First piece that ends behind `start`.
  Map::const_iterator FirstOverlap(uint32_t start) const;
  void Count(uint32_t length, PieceSource source, bool added);
  // Removes whatever covers [start, end); returns the first piece behind.
  Map::iterator Clear(uint32_t start, uint32_t end);
  // Cuts [start, end) out of the piece at `it`; returns what stands behind the
  // cut, the rest of that piece if there is one.
  Map::iterator Cut(Map::iterator it, uint32_t start, uint32_t end);
  bool Continues(uint32_t left_start, const Packed& left, uint32_t right_start,
                 PieceSource right) const;

  uint64_t segment_sectors_;
  uint64_t payload_sectors_ = 0;
  uint64_t lost_sectors_ = 0;
  Map pieces_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_KEY_INDEX_H_
