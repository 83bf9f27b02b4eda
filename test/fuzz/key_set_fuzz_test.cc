// Feeds bytes to KeySetView. What is accepted must be within bounds, and be
// accepted again when built from its keys.
//
// Input: flags (1 byte), then a set. Bit 0 of the flags seals the set over the
// length it claims, since no fuzzer finds a CRC; bit 1 makes the image small.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "meta/crc32c.h"
#include "meta/endian.h"
#include "meta/geometry.h"
#include "meta/key_set.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/fuzz/require.h"

namespace pcachefs {
namespace {

void CheckBounds(const Key& key, const Geometry& geometry,
                 uint64_t image_size) {
  Require(key.range.end().value() <= image_size, "a key lies in the image");
  if (key.kind != KeyKind::kLink && !HasPayload(key.kind)) return;
  Require(key.position.segment.value() < geometry.segment_count(),
          "a segment exists");
  Require(
      uint64_t{key.position.offset.value()} + PayloadBlocks(key) * kBlockSize <=
          geometry.segment_size(),
      "payload lies in its segment");
}

void CheckView(const KeySetView& view, const Geometry& geometry,
               uint64_t image_size, const KeySetExpectation& expected) {
  std::vector<std::byte> buffer(kMaxKeySetSize);
  KeySetBuilder builder(buffer);
  KeySetView::Cursor cursor(view);
  uint32_t key_count = 0;
  while (cursor.Next()) {
    CheckBounds(cursor.key(), geometry, image_size);
    std::vector<uint32_t> crcs;
    while (crcs.size() < PayloadBlocks(cursor.key())) {
      crcs.push_back(cursor.crc(static_cast<uint32_t>(crcs.size())));
    }
    Require(builder.Add(cursor.key(), crcs), "an accepted set can be built");
    ++key_count;
  }
  Require(key_count == view.header().key_count, "the cursor sees every key");
  const auto rebuilt = builder.Seal(view.header());
  Require(rebuilt.size() == view.header().length, "keys fill the set");
  Require(KeySetView::Parse(rebuilt, expected, geometry, image_size).ok(),
          "what was built is accepted");
}

}  // namespace
}  // namespace pcachefs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pcachefs;  // NOLINT: the function must be outside
  if (size == 0) return 0;
  static const Geometry geometry = *Geometry::ForDevice(64 * kMiB, 0);
  const auto input = std::as_bytes(std::span(data + 1, size - 1));
  std::vector<std::byte> bytes(input.begin(), input.end());
  const uint64_t image_size = (data[0] & 2) != 0 ? kMiB : kMaxImageSize;

  KeySetExpectation expected;
  if (bytes.size() >= kKeySetHeaderSize) {
    expected.sequence = SequenceNumber(LoadLittle<uint64_t>(bytes, 8));
    expected.min_incarnation = Incarnation(LoadLittle<uint32_t>(bytes, 16));
    expected.image = ImageTag(LoadLittle<uint64_t>(bytes, 24));
    const size_t length = std::min<size_t>(
        LoadLittle<uint16_t>(bytes, 4) * kKeySetAlignment, bytes.size());
    if ((data[0] & 1) != 0 && length > 4) {
      StoreLittle<uint32_t>(
          bytes, 0,
          Crc32c(std::span<const std::byte>(bytes).subspan(4, length - 4)));
    }
  }
  const auto probed = KeySetView::Probe(bytes, expected.image);
  const auto view = KeySetView::Parse(bytes, expected, geometry, image_size);
  if (!view.ok()) return 0;
  Require(probed.ok(), "what Parse accepts Probe finds");
  CheckView(*view, geometry, image_size, expected);
  return 0;
}
