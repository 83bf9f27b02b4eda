// One request to a backing file as a sequence of system calls, whoever makes
// them: it decides on descriptor, pieces, copies and repetitions.

#ifndef PCACHEFS_IOBACKEND_BACKING_TRANSFER_H_
#define PCACHEFS_IOBACKEND_BACKING_TRANSFER_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "iobackend/backing_device.h"
#include "iobackend/backing_file.h"

namespace pcachefs {

// A system call.
struct BackingCall {
  enum class Function { kReadv, kWritev, kFallocate, kFdatasync };

  Function function = Function::kReadv;
  int fd = -1;
  const iovec* buffers = nullptr;  // kReadv, kWritev
  unsigned buffer_count = 0;
  int mode = 0;  // kFallocate
  uint64_t offset = 0;
  uint64_t length = 0;
};

// Thread-compatible. Neither moved nor copied: call() points into it.
//
//   BackingTransfer transfer(file, std::move(request));
//   while (!transfer.is_finished()) transfer.Advance(Make(transfer.call()));
//   transfer.Finish();
class BackingTransfer {
 public:
  // `file` outlives the transfer.
  BackingTransfer(BackingFile& file, BackingRequest request);

  BackingTransfer(const BackingTransfer&) = delete;
  BackingTransfer& operator=(const BackingTransfer&) = delete;

  bool is_finished() const { return is_finished_; }

  // The next call to make, while not finished.
  const BackingCall& call() const { return call_; }

  // Takes the result of call(), or -errno.
  void Advance(int64_t result);

  // Runs the request's `done`.
  void Finish() { request_.done(std::move(status_)); }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  using Operation = BackingRequest::Operation;

  uint64_t position() const { return request_.offset + progress_; }
  uint64_t remaining() const { return request_.length - progress_; }

  void Stop(absl::Status status);
  // What to do with the result of a failed call.
  void AdvanceAfterError(int error_number);
  void AdvanceAfterTransfer(uint64_t count);

  // These choose the next call.
  void Plan();
  void PlanRead();
  void PlanWrite();
  void PlanZero();
  void PlanFallocate(int mode, uint64_t length);
  void PlanWriteOfZeroes(uint64_t length);
  void PlanOwnBuffers(bool direct);
  void PlanBounce(uint64_t begin, uint64_t end);

  bool HasAlignedMemory() const;
  void CopyToBounce(uint64_t length);
  void CopyFromBounce(uint64_t skip, uint64_t length);
  template <typename Function>
  void ForEachPiece(uint64_t length, Function function) const;

  const char* operation_name() const;

  BackingFile& file_;
  BackingRequest request_;
  uint64_t progress_ = 0;  // bytes
  bool is_finished_ = false;
  absl::Status status_;
  BackingCall call_;
  absl::InlinedVector<iovec, 2> buffers_;

  // Not direct for this transfer, whatever the file offers.
  bool avoid_direct_ = false;
  // Write zeroes in this transfer, whatever fallocate() could do.
  bool avoid_fallocate_ = false;
  // In aligned memory, for what may not be transferred in place.
  std::unique_ptr<std::byte[], Free> bounce_;
  bool is_bounced_ = false;
  int retries_ = 0;  // without progress
  int useless_reads_ = 0;  // in a row, that ended before the request's bytes
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_BACKING_TRANSFER_H_
