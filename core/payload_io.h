// Payload between memory and segments, with its checksums: nothing that fails
// its checksum leaves here.

#ifndef PCACHEFS_CORE_PAYLOAD_IO_H_
#define PCACHEFS_CORE_PAYLOAD_IO_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/data_allocator.h"
#include "core/segment_table.h"
#include "iobackend/cache_device.h"
#include "meta/types.h"

namespace pcachefs {

// Thread-safe. Callers hold a pin or a reference on the segment they name.
class PayloadIo {
 public:
  PayloadIo(CacheDevice& device, SegmentTable& table)
      : device_(device), table_(table) {}

  // Copies `bytes` (whole sectors, at most the allocation) into the blocks of
  // `allocation`, padding the last one with zeros, and sets their checksums.
  absl::Status Write(const Allocation& allocation,
                     std::span<const std::byte> bytes);

  // Reads sectors from anywhere in a segment's payload and verifies every block
  // touched. DataLoss, naming the block: its checksum is wrong. May wait for
  // the media; TryRead answers false instead.
  absl::Status Read(CachePosition position, std::span<std::byte> out);
  absl::StatusOr<bool> TryRead(CachePosition position,
                               std::span<std::byte> out);

  // The same without blocking: `done` runs when `out` is filled and verified.
  void ReadAsync(CachePosition position, std::span<std::byte> out,
                 absl::AnyInvocable<void(absl::Status)> done);

  // The payload itself, verified, where the device is mapped memory; empty
  // elsewhere.
  absl::StatusOr<std::span<const std::byte>> View(CachePosition position,
                                                  uint64_t length);

  // Notes a hit of these sectors, for reclaim, which keeps what was hit; blocks
  // that were read ahead and are used only now.
  uint32_t MarkHit(CachePosition position, uint64_t length);

  // From media sectors as the index has them, and back.
  CachePosition PositionOf(uint64_t media_sector) const;
  uint64_t MediaSectorOf(CachePosition position) const;

 private:
  template <typename ReadBytes>
  absl::StatusOr<bool> ReadWith(CachePosition position,
                                std::span<std::byte> out,
                                ReadBytes read_bytes);
  absl::Status Verify(SegmentId segment, uint32_t first_block,
                      std::span<const std::byte> blocks);

  CacheDevice& device_;
  SegmentTable& table_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_PAYLOAD_IO_H_
