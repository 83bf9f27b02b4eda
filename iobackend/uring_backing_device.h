// A backing device whose requests run on several io_urings, each with its own
// reaper thread, so that no one thread serialises completions (fills).

#ifndef PCACHEFS_IOBACKEND_URING_BACKING_DEVICE_H_
#define PCACHEFS_IOBACKEND_URING_BACKING_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "iobackend/backing_device.h"
#include "iobackend/backing_file.h"
#include "iobackend/ring.h"
#include "meta/records.h"

namespace pcachefs {

// A `done` runs on a reaper's thread, always after Submit() took the request;
// it should not wait, since the other completions of its ring wait for it. The
// destructor waits for every request, and must not be called by a `done`.
class UringBackingDevice final : public BackingDevice {
 public:
  struct Options {
    int rings = 0;          // 0: as many as processors, at most 4
    int queue_depth = 128;  // per ring: requests in flight
  };

  // Unavailable if the kernel refuses io_uring.
  static absl::StatusOr<std::unique_ptr<UringBackingDevice>> Create(
      std::unique_ptr<BackingFile> file, const Options& options);

  uint64_t size() const override { return file_->size(); }
  const BackingIdentity& identity() const override { return file_->identity(); }
  const std::string& spec() const override { return file_->spec(); }
  bool is_read_only() const override { return file_->is_read_only(); }
  uint32_t block_size() const override { return file_->granule(); }
  // All requests of a call go to one ring, that of the caller's processor or,
  // within a `done`, that of the completion.
  void Submit(std::vector<BackingRequest> requests,
              Submission submission) override;
  absl::StatusOr<Extent> FindExtent(uint64_t offset) override {
    return file_->FindExtent(offset);
  }
  uint64_t allocated_bytes() override { return file_->allocated_bytes(); }
  absl::Status Refresh() override { return file_->Refresh(); }

 private:
  class Transfer;
  using Flushes = std::vector<BackingRequest>;

  explicit UringBackingDevice(std::unique_ptr<BackingFile> file)
      : file_(std::move(file)) {}

  Ring& ChooseRing();
  // The operation that makes `flush` true, or nullptr if one that runs already
  // will start it.
  std::unique_ptr<RingOperation> StartFlush(BackingRequest flush);
  std::unique_ptr<RingOperation> MakeFlush(Flushes flushes);
  void FinishFlush(Flushes flushes, const absl::Status& status);

  const std::unique_ptr<BackingFile> file_;

  // One flush runs at a time: of two the kernel tells but one of an error.
  // Those that come meanwhile share the next.
  absl::Mutex flush_mutex_;
  bool is_flushing_ ABSL_GUARDED_BY(flush_mutex_) = false;
  Flushes waiting_flushes_ ABSL_GUARDED_BY(flush_mutex_);

  // Last: their threads use the rest.
  std::vector<std::unique_ptr<Ring>> rings_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_URING_BACKING_DEVICE_H_
