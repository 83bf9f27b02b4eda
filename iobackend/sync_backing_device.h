// A backing device whose requests run on the caller's thread: for tools, and
// for kernels that refuse io_uring.

#ifndef PCACHEFS_IOBACKEND_SYNC_BACKING_DEVICE_H_
#define PCACHEFS_IOBACKEND_SYNC_BACKING_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "iobackend/backing_device.h"
#include "iobackend/backing_file.h"
#include "iobackend/backing_transfer.h"
#include "meta/records.h"

namespace pcachefs {

// Submit() returns when every `done` has run, also for Submission::kQueued.
class SyncBackingDevice final : public BackingDevice {
 public:
  explicit SyncBackingDevice(std::unique_ptr<BackingFile> file)
      : file_(std::move(file)) {}

  uint64_t size() const override { return file_->size(); }
  const BackingIdentity& identity() const override { return file_->identity(); }
  const std::string& spec() const override { return file_->spec(); }
  bool is_read_only() const override { return file_->is_read_only(); }
  uint32_t block_size() const override { return file_->granule(); }
  void Submit(std::vector<BackingRequest> requests,
              Submission submission) override;
  absl::StatusOr<Extent> FindExtent(uint64_t offset) override {
    return file_->FindExtent(offset);
  }
  uint64_t allocated_bytes() override { return file_->allocated_bytes(); }
  absl::Status Refresh() override { return file_->Refresh(); }

 private:
  int64_t Make(const BackingCall& call);

  const std::unique_ptr<BackingFile> file_;
  // Held during fdatasync: of two that run at a time the kernel tells but one
  // of an error.
  absl::Mutex flush_mutex_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_SYNC_BACKING_DEVICE_H_
