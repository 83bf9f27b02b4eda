#include "tools/simulation/simulated_devices.h"

#include <algorithm>
#include <cstring>

namespace pcachefs {
namespace {

bool IsZero(std::span<const std::byte> bytes) {
  return bytes[0] == std::byte{0} &&
         std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

// Calls `visit(block, offset in it, bytes)` for each block touched.
template <typename Bytes, typename Visit>
absl::Status ForEachBlock(uint64_t size, MediaOffset offset, Bytes bytes,
                          Visit visit) {
  uint64_t at = offset.value();
  if (at > size || bytes.size() > size - at) {
    return absl::OutOfRangeError("beyond the simulated cache device");
  }
  while (!bytes.empty()) {
    const size_t length =
        std::min<size_t>(bytes.size(), kBlockSize - at % kBlockSize);
    visit(at / kBlockSize, at % kBlockSize, bytes.first(length));
    bytes = bytes.subspan(length);
    at += length;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SimulatedCacheDevice::Read(MediaOffset offset,
                                        std::span<std::byte> out) {
  return ForEachBlock(
      size_, offset, out,
      [this](uint64_t index, size_t begin, std::span<std::byte> part) {
        if (blocks_[index] == nullptr) {
          std::memset(part.data(), 0, part.size());
        } else {
          std::memcpy(part.data(), blocks_[index]->data() + begin,
                      part.size());
        }
      });
}

absl::StatusOr<bool> SimulatedCacheDevice::TryRead(MediaOffset offset,
                                                   std::span<std::byte> out) {
  const absl::Status read = Read(offset, out);
  if (!read.ok()) return read;
  return true;
}

absl::Status SimulatedCacheDevice::Write(MediaOffset offset,
                                         std::span<const std::byte> bytes) {
  return ForEachBlock(
      size_, offset, bytes,
      [this](uint64_t index, size_t begin, std::span<const std::byte> part) {
        std::unique_ptr<Block>& block = blocks_[index];
        if (IsZero(part)) {
          if (part.size() == kBlockSize) block.reset();
          if (block == nullptr) return;
        }
        if (block == nullptr) block = std::make_unique<Block>();
        std::memcpy(block->data() + begin, part.data(), part.size());
      });
}

void SimulatedBackingDevice::Submit(std::vector<BackingRequest> requests,
                                    Submission) {
  for (BackingRequest& request : requests) {
    if (request.operation == BackingRequest::Operation::kRead) {
      for (const std::span<std::byte> buffer : request.buffers) {
        std::memset(buffer.data(), 0, buffer.size());
      }
    }
    request.done(absl::OkStatus());
  }
}

}  // namespace pcachefs
