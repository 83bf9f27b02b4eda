// Devices without bytes, for simulations: a cache device in memory that keeps
// only blocks which are not zeroes, and a backing device that is all zeroes and
// takes every write.

#ifndef PCACHEFS_TOOLS_SIMULATION_SIMULATED_DEVICES_H_
#define PCACHEFS_TOOLS_SIMULATION_SIMULATED_DEVICES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iobackend/backing_device.h"
#include "iobackend/cache_device.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {

// Not thread-safe.
class SimulatedCacheDevice final : public CacheDevice {
 public:
  explicit SimulatedCacheDevice(uint64_t size)
      : size_(size), blocks_(DivideRoundingUp(size, kBlockSize)) {}

  uint64_t size() const override { return size_; }
  const std::string& name() const override { return name_; }
  bool is_volatile() const override { return true; }
  bool persist_is_cheap() const override { return true; }
  absl::Status Read(MediaOffset offset, std::span<std::byte> out) override;
  absl::StatusOr<bool> TryRead(MediaOffset offset,
                               std::span<std::byte> out) override;
  void ReadAsync(MediaOffset offset, std::span<std::byte> out,
                 absl::AnyInvocable<void(absl::Status)> done) override {
    done(Read(offset, out));
  }
  absl::Status Write(MediaOffset offset,
                     std::span<const std::byte> bytes) override;
  absl::Status Persist() override { return absl::OkStatus(); }
  const std::byte* View(MediaOffset, uint64_t) override { return nullptr; }
  absl::Status Refresh() override { return absl::OkStatus(); }

 private:
  using Block = std::array<std::byte, kBlockSize>;

  const uint64_t size_;
  const std::string name_ = "simulated cache device";
  std::vector<std::unique_ptr<Block>> blocks_;  // null: zeroes
};

// Requests end within Submit.
class SimulatedBackingDevice final : public BackingDevice {
 public:
  explicit SimulatedBackingDevice(uint64_t size)
      : identity_({.kind = BackingKind::kFile,
                   .size = size,
                   .text = "simulated"}) {}

  uint64_t size() const override { return identity_.size; }
  const BackingIdentity& identity() const override { return identity_; }
  const std::string& spec() const override { return identity_.text; }
  bool is_read_only() const override { return false; }
  uint32_t block_size() const override { return kBlockSize; }
  void Submit(std::vector<BackingRequest> requests,
              Submission submission) override;
  absl::StatusOr<Extent> FindExtent(uint64_t offset) override {
    return Extent{.length = size() - offset};
  }
  uint64_t allocated_bytes() override { return 0; }
  absl::Status Refresh() override { return absl::OkStatus(); }

 private:
  const BackingIdentity identity_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SIMULATION_SIMULATED_DEVICES_H_
