// Feeds slots of every record type to ChooseSlot. What is accepted must survive
// being encoded and decoded, and be within the format's bounds.
//
// Input: record type (1 byte), then slot 0 and slot 1, half of the rest each.
// Bits 4 and 5 of the first byte seal the slots, since no fuzzer finds a CRC.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "meta/endian.h"
#include "meta/geometry.h"
#include "meta/records.h"
#include "meta/slot_pair.h"
#include "meta/types.h"
#include "test/fuzz/require.h"

namespace pcachefs {
namespace {

void CheckBounds(const Superblock& superblock) {
  const auto geometry = Geometry::FromStored(superblock.geometry);
  Require(geometry.ok(), "an accepted superblock has a geometry");
  const SegmentId last(geometry->segment_count() - 1);
  const SegmentOffset end(geometry->segment_size());
  Require(geometry->position({last, end}).value() <= geometry->device_size(),
          "segments lie within the device");
}

void CheckBounds(const CacheInfo& info) {
  Require(info.gc_percent <= kMaxGcPercent, "gc_percent is in range");
}

void CheckBounds(const ImageRecord& image) {
  Require(image.gc_percent <= kMaxGcPercent, "gc_percent is in range");
  Require(image.size <= kMaxImageSize, "keys reach the end of the image");
  Require(
      image.state == ImageState::kNone || ValidateImageName(image.name).ok(),
      "an image's name is valid");
}

void CheckBounds(const LogTails& tails) {
  Require(tails.key_tail.sequence <= tails.dirty_tail.sequence &&
              tails.dirty_tail.sequence <= tails.key_head.sequence,
          "tails are ordered");
}

void CheckBounds(const SegmentRecord& segment) {
  Require(segment.use == SegmentUse::kFree || segment.generation.value() > 0,
          "a segment in use has a generation");
}

// `bytes` in a slot as large as the smallest that there is for T.
template <typename T>
std::vector<std::byte> Slot(std::span<const std::byte> bytes, bool seal) {
  std::vector<std::byte> slot(std::max(bytes.size(), T::kSize));
  std::copy(bytes.begin(), bytes.end(), slot.begin());
  if (seal) {
    const uint64_t number = LoadLittle<uint64_t>(slot, 8);
    SealSlot(std::span(slot).first(T::kSize), T::kType,
             std::max<uint64_t>(number, 1));
  }
  return slot;
}

template <typename T>
void Run(uint8_t flags, std::span<const std::byte> input) {
  const size_t half = input.size() / 2;
  const auto slot0 = Slot<T>(input.first(half), (flags & 0x10) != 0);
  const auto slot1 = Slot<T>(input.subspan(half), (flags & 0x20) != 0);

  const auto choice = ChooseSlot<T>(slot0, slot1);

  if (!choice.ok()) return;
  CheckBounds(choice->value);
  const auto encoded = EncodeSlot(choice->value, choice->update_number);
  const auto again = ChooseSlot<T>(encoded, encoded);
  Require(again.ok(), "what was accepted is accepted again");
  Require(EncodeSlot(again->value, again->update_number) == encoded,
          "encoding loses nothing");
}

void RunClassify(std::span<const std::byte> input) {
  const size_t half = input.size() / 2;
  const auto slot0 = Slot<Superblock>(input.first(half), false);
  const auto slot1 = Slot<Superblock>(input.subspan(half), false);

  const DeviceKind kind = ClassifyDevice(slot0, slot1);

  const auto choice = ChooseSlot<Superblock>(slot0, slot1);
  Require(
      !choice.ok() || kind == DeviceKind::kOurs || kind == DeviceKind::kNewer,
      "a device with a valid superblock is known");
  Require(kind != DeviceKind::kBlank || !choice.ok(),
          "a device with a valid superblock is not blank");
}

}  // namespace
}  // namespace pcachefs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pcachefs;  // NOLINT: the function must be outside
  if (size == 0) return 0;
  const auto input = std::as_bytes(std::span(data + 1, size - 1));
  switch (data[0] % 8) {
    case Superblock::kType:
      Run<Superblock>(data[0], input);
      break;
    case CacheInfo::kType:
      Run<CacheInfo>(data[0], input);
      break;
    case ImageRecord::kType:
      Run<ImageRecord>(data[0], input);
      break;
    case LogTails::kType:
      Run<LogTails>(data[0], input);
      break;
    case SegmentRecord::kType:
      Run<SegmentRecord>(data[0], input);
      break;
    default:
      RunClassify(input);
  }
  return 0;
}
