#include "test/fakes/fake_backing_device.h"

#include <algorithm>
#include <utility>

#include "meta/units.h"
#include "test/fakes/cow_bytes.h"
#include "test/fakes/fake_disk.h"

namespace pcachefs {

FakeBackingDevice::FakeBackingDevice(FakeDisk& disk, const Options& options)
    : disk_(disk), options_(options), size_(disk.size()) {
  identity_.kind = BackingKind::kFile;
  identity_.size = size_;
  identity_.text = options.identity;
}

FakeBackingDevice::~FakeBackingDevice() {
  disk_.set_hanging(false);
  while (disk_.Step()) {
  }
}

absl::Status FakeBackingDevice::Refresh() {
  size_ = disk_.size();
  return absl::OkStatus();
}

void FakeBackingDevice::Submit(std::vector<BackingRequest> requests,
                               Submission submission) {
  disk_.Submit(std::move(requests), submission);
}

absl::StatusOr<BackingDevice::Extent> FakeBackingDevice::FindExtent(
    uint64_t offset) {
  const CowBytes bytes = disk_.media().visible();
  Extent extent;
  extent.is_hole = bytes.IsHole(offset);
  uint64_t end = offset;
  while (end < bytes.size() && bytes.IsHole(end) == extent.is_hole) {
    end = RoundDown(end, CowBytes::kPageSize) + CowBytes::kPageSize;
  }
  extent.length = std::min(end, bytes.size()) - offset;
  return extent;
}

uint64_t FakeBackingDevice::allocated_bytes() {
  return disk_.media().visible().allocated_bytes();
}

}  // namespace pcachefs
