// Key sets, the records of an image's log: docs/on_media_format.md section 8.
// Pure; no object here is shared between threads.

#ifndef PCACHEFS_META_KEY_SET_H_
#define PCACHEFS_META_KEY_SET_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "meta/geometry.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {

inline constexpr size_t kKeySetHeaderSize = 32;
inline constexpr size_t kKeySetAlignment = 8;
inline constexpr size_t kMaxKeySetSize = 64 * kKiB;
// A key set that holds nothing but a link.
inline constexpr size_t kLinkSetSize = 56;

enum class KeyKind : uint8_t {
  kWrite = 1,    // payload, dirty
  kFill = 2,     // payload, clean
  kZero = 3,     // write-zeroes, dirty
  kDiscard = 4,  // punch-hole, dirty, reads as zeroes
  kLink = 5,     // the log goes on in another segment
  kForget = 6,   // the range is served by the backing device
  kLost = 7,     // the range answers EIO
  // Payload, clean, of a range that the backing device may still lose in a power
  // cut: counts once dirty_tail has passed it, else it is a kForget.
  kProvisional = 8,
};

constexpr bool HasPayload(KeyKind kind) {
  return kind == KeyKind::kWrite || kind == KeyKind::kFill ||
         kind == KeyKind::kProvisional;
}
// Must reach the backing device before dirty_tail passes it.
constexpr bool IsDirty(KeyKind kind) {
  return kind == KeyKind::kWrite || kind == KeyKind::kZero ||
         kind == KeyKind::kDiscard;
}
const char* Name(KeyKind kind);

// One key. For kinds with payload `position` is where it stands (a multiple of
// kBlockSize) and `generation` the life of that segment; for kLink
// position.segment is the next log segment, `generation` its life, and `range`
// is empty; otherwise position and generation are zero.
struct Key {
  KeyKind kind = KeyKind::kWrite;
  ImageRange range;  // sector-aligned
  CachePosition position;
  Generation generation;

  friend bool operator==(const Key&, const Key&) = default;
};

// Payload blocks of a key of this kind and length in bytes: 0 without payload.
constexpr uint32_t PayloadBlocks(const Key& key) {
  return HasPayload(key.kind) ? DivideRoundingUp(key.range.length, kBlockSize)
                              : 0;
}

// Encoded size of a key with so many payload blocks, in bytes.
constexpr size_t EncodedKeySize(uint32_t payload_blocks) {
  return RoundUp(24 + 4 * size_t{payload_blocks}, kKeySetAlignment);
}

struct KeySetHeader {
  uint32_t length = 0;  // bytes, header included
  uint16_t key_count = 0;
  SequenceNumber sequence;
  Incarnation incarnation;
  bool begins_epoch = false;
  bool is_link = false;
  ImageTag image;
  // Every set up to this number was covered by a barrier when this one was
  // written; 0 = not told. Encoded as a distance: numbers further back than
  // the field reaches become "not told".
  SequenceNumber durable;
};

// Encodes one key set into a buffer of the caller's.
//
//   std::byte buffer[...];
//   KeySetBuilder builder(buffer);
//   CHECK(builder.Add(key, crcs));
//   std::span<const std::byte> set = builder.Seal(header);
class KeySetBuilder {
 public:
  // `buffer` outlives the builder and is aligned to nothing in particular.
  explicit KeySetBuilder(std::span<std::byte> buffer);

  // False if the set has no room for the key. Requires
  // crcs.size() == PayloadBlocks(key).
  [[nodiscard]] bool Add(const Key& key, std::span<const uint32_t> crcs);

  bool empty() const { return key_count_ == 0; }
  size_t size() const { return size_; }  // bytes so far, header included

  // Writes the header (length, key_count and the CRC are the builder's) and
  // returns the bytes of the set. The builder must not be used again.
  std::span<const std::byte> Seal(const KeySetHeader& header);

 private:
  std::span<std::byte> buffer_;
  size_t size_ = kKeySetHeaderSize;
  uint16_t key_count_ = 0;
};

// What a reader knows before it reads a set.
struct KeySetExpectation {
  ImageTag image;
  SequenceNumber sequence;
  Incarnation min_incarnation;
};

// A checked key set over borrowed bytes.
class KeySetView {
 public:
  // Parses the set at the start of `bytes` (which may hold more). Everything is
  // checked here, once: CRC, tag, sequence number, incarnation, every key's
  // kind, alignment and bounds against `geometry` and `image_size` (bytes),
  // that keys fill the set exactly, that link sets hold one link and others
  // none. NotFound when no valid set begins here (CRC, tag, sequence,
  // incarnation, or length do not fit: the end of the log or damage, for the
  // caller to tell). DataLoss, with got and wanted, when header and CRC are
  // right but a key is out of bounds: that no crash explains.
  static absl::StatusOr<KeySetView> Parse(std::span<const std::byte> bytes,
                                          const KeySetExpectation& expected,
                                          const Geometry& geometry,
                                          uint64_t image_size);

  // A set of this image stands at the start of `bytes`, whatever its number:
  // for the search behind the end of a log. NotFound otherwise.
  static absl::StatusOr<KeySetHeader> Probe(std::span<const std::byte> bytes,
                                            ImageTag image);

  const KeySetHeader& header() const { return header_; }

  // Iterates: a cursor starts at 0; Next returns false at the end.
  class Cursor {
   public:
    explicit Cursor(const KeySetView& view) : bytes_(view.bytes_) {}
    bool Next();
    const Key& key() const { return key_; }
    // CRC of payload block `index` of the current key.
    uint32_t crc(uint32_t index) const;

   private:
    std::span<const std::byte> bytes_;
    size_t offset_ = kKeySetHeaderSize;
    size_t crcs_offset_ = 0;
    Key key_;
  };

 private:
  KeySetView(std::span<const std::byte> bytes, const KeySetHeader& header)
      : bytes_(bytes), header_(header) {}

  std::span<const std::byte> bytes_;  // exactly the set
  KeySetHeader header_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_META_KEY_SET_H_
