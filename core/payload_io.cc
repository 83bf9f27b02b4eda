#include "core/payload_io.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/mutation.h"
#include "glog/logging.h"
#include "meta/crc32c.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Copied and checked so much at a time, while it is in the processor's cache.
constexpr size_t kChunk = 128 * kKiB;

// On its way to the processor's cache while the block before it is checked: the
// processor itself looks ahead no further than the page it is in.
void Prefetch(std::span<const std::byte> block) {
  constexpr size_t kLine = 64;
  for (size_t at = 0; at < block.size(); at += kLine) {
    __builtin_prefetch(block.data() + at);
  }
}

}  // namespace

absl::Status PayloadIo::Write(const Allocation& allocation,
                              std::span<const std::byte> bytes) {
  DCHECK_LE(bytes.size(), allocation.block_count * kBlockSize);
  uint32_t* checksums =
      table_.segment(allocation.segment).checksums() + allocation.first_block;
  const MediaOffset start = table_.geometry().position(allocation.position());
  const size_t whole = RoundDown(bytes.size(), kBlockSize);
  for (size_t at = 0; at < whole; at += kChunk) {
    const auto chunk = bytes.subspan(at, std::min(kChunk, whole - at));
    for (size_t block = 0; block < chunk.size(); block += kBlockSize) {
      *checksums++ = Crc32c(chunk.subspan(block, kBlockSize));
    }
    RETURN_IF_ERROR(device_.Write(start + at, chunk));
  }
  if (whole == bytes.size()) return absl::OkStatus();

  // Padding the rest makes every block verifiable without knowing how much of
  // it is used.
  std::array<std::byte, kBlockSize> last = {};
  std::memcpy(last.data(), bytes.data() + whole, bytes.size() - whole);
  *checksums = Crc32c(last);
  return device_.Write(start + whole, last);
}

absl::Status PayloadIo::Read(CachePosition position,
                             std::span<std::byte> out) {
  return ReadWith(position, out,
                  [this](MediaOffset offset, std::span<std::byte> part)
                      -> absl::StatusOr<bool> {
                    RETURN_IF_ERROR(device_.Read(offset, part));
                    return true;
                  })
      .status();
}

absl::StatusOr<bool> PayloadIo::TryRead(CachePosition position,
                                        std::span<std::byte> out) {
  return ReadWith(position, out,
                  [this](MediaOffset offset, std::span<std::byte> part) {
                    return device_.TryRead(offset, part);
                  });
}

void PayloadIo::ReadAsync(CachePosition position, std::span<std::byte> out,
                          absl::AnyInvocable<void(absl::Status)> done) {
  // Whole blocks, since only they can be verified. This path waits for media:
  // one more copy does not show.
  const uint32_t begin = position.offset.value();
  const uint32_t first = RoundDown(begin, kBlockSize);
  const uint32_t end = RoundUp(begin + out.size(), kBlockSize);
  auto blocks = std::make_unique<std::vector<std::byte>>(end - first);
  const std::span<std::byte> whole(*blocks);
  device_.ReadAsync(
      table_.geometry().position({position.segment, SegmentOffset(first)}),
      whole,
      [this, position, out, first, blocks = std::move(blocks),
       done = std::move(done)](absl::Status status) mutable {
        if (status.ok()) {
          status = Verify(position.segment, first / kBlockSize, *blocks);
        }
        if (status.ok()) {
          std::memcpy(out.data(),
                      blocks->data() + (position.offset.value() - first),
                      out.size());
        }
        done(std::move(status));
      });
}

absl::StatusOr<std::span<const std::byte>> PayloadIo::View(
    CachePosition position, uint64_t length) {
  const uint32_t begin = position.offset.value();
  const uint32_t first = RoundDown(begin, kBlockSize);
  const uint32_t end = RoundUp(begin + length, kBlockSize);
  const std::byte* blocks = device_.View(
      table_.geometry().position({position.segment, SegmentOffset(first)}),
      end - first);
  if (blocks == nullptr) return std::span<const std::byte>();
  RETURN_IF_ERROR(
      Verify(position.segment, first / kBlockSize, {blocks, end - first}));
  return std::span<const std::byte>(blocks + (begin - first), length);
}

uint32_t PayloadIo::MarkHit(CachePosition position, uint64_t length) {
  const uint32_t begin = position.offset.value();
  const uint32_t first = begin / kBlockSize;
  const uint32_t end = DivideRoundingUp(begin + length, kBlockSize);
  return table_.segment(position.segment).MarkHit(first, end - first);
}

CachePosition PayloadIo::PositionOf(uint64_t media_sector) const {
  const uint64_t segment_sectors =
      table_.geometry().segment_size() / kSectorSize;
  return {SegmentId(media_sector / segment_sectors),
          SegmentOffset(media_sector % segment_sectors * kSectorSize)};
}

uint64_t PayloadIo::MediaSectorOf(CachePosition position) const {
  return position.segment.value() *
             (table_.geometry().segment_size() / kSectorSize) +
         position.offset.value() / kSectorSize;
}

template <typename ReadBytes>
absl::StatusOr<bool> PayloadIo::ReadWith(CachePosition position,
                                         std::span<std::byte> out,
                                         ReadBytes read_bytes) {
  const Geometry& geometry = table_.geometry();
  uint32_t at = position.offset.value();
  while (!out.empty()) {
    const uint32_t in_block = at % kBlockSize;
    const uint32_t block = at / kBlockSize;
    if (in_block == 0 && out.size() >= kBlockSize) {
      const std::span<std::byte> whole =
          out.first(std::min(RoundDown(out.size(), kBlockSize), kChunk));
      ASSIGN_OR_RETURN(
          const bool read,
          read_bytes(geometry.position({position.segment, SegmentOffset(at)}),
                     whole));
      if (!read) return false;
      RETURN_IF_ERROR(Verify(position.segment, block, whole));
      at += whole.size();
      out = out.subspan(whole.size());
      continue;
    }
    // A part of a block: all of it is needed to verify any of it.
    std::array<std::byte, kBlockSize> buffer;
    ASSIGN_OR_RETURN(const bool read,
                     read_bytes(geometry.position(
                                    {position.segment,
                                     SegmentOffset(block * kBlockSize)}),
                                std::span<std::byte>(buffer)));
    if (!read) return false;
    RETURN_IF_ERROR(Verify(position.segment, block, buffer));
    const size_t length = std::min(out.size(), kBlockSize - in_block);
    std::memcpy(out.data(), buffer.data() + in_block, length);
    at += length;
    out = out.subspan(length);
  }
  return true;
}

absl::Status PayloadIo::Verify(SegmentId segment, uint32_t first_block,
                               std::span<const std::byte> blocks) {
  const uint32_t* checksums =
      table_.segment(segment).checksums() + first_block;
  const size_t count = blocks.size() / kBlockSize;
  for (size_t i = 0; i < count; ++i) {
    if (i + 1 < count) {
      Prefetch(blocks.subspan((i + 1) * kBlockSize, kBlockSize));
    }
    const uint32_t got = Crc32c(blocks.subspan(i * kBlockSize, kBlockSize));
    if (got == checksums[i] || Planted(Mutation::kChecksumsUnverified)) {
      continue;
    }
    return absl::DataLossError(absl::StrFormat(
        "payload of segment %u: wrong checksum at block %u: got 0x%08x, "
        "want 0x%08x",
        segment.value(), first_block + i, got, checksums[i]));
  }
  return absl::OkStatus();
}

}  // namespace pcachefs
