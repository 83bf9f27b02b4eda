// What a Cache owns of a FakeDisk: a BackingDevice that passes requests on.

#ifndef PCACHEFS_TEST_FAKES_FAKE_BACKING_DEVICE_H_
#define PCACHEFS_TEST_FAKES_FAKE_BACKING_DEVICE_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iobackend/backing_device.h"

namespace pcachefs {

class FakeDisk;

// Thread-safe. The disk outlives it.
class FakeBackingDevice : public BackingDevice {
 public:
  struct Options {
    uint32_t block_size = 4096;
    bool is_read_only = false;
    std::string identity;
  };

  FakeBackingDevice(FakeDisk& disk, const Options& options);
  // Ends what is in flight, as closing a real one does.
  ~FakeBackingDevice() override;

  uint64_t size() const override { return size_; }
  const BackingIdentity& identity() const override { return identity_; }
  const std::string& spec() const override { return spec_; }
  bool is_read_only() const override { return options_.is_read_only; }
  uint32_t block_size() const override { return options_.block_size; }
  void Submit(std::vector<BackingRequest> requests,
              Submission submission) override;
  absl::StatusOr<Extent> FindExtent(uint64_t offset) override;
  uint64_t allocated_bytes() override;
  absl::Status Refresh() override;

 private:
  FakeDisk& disk_;
  const Options options_;
  BackingIdentity identity_;
  std::atomic<uint64_t> size_;
  const std::string spec_ = "/simulated/disk";
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_FAKES_FAKE_BACKING_DEVICE_H_
