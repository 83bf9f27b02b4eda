#include "iobackend/uring_backing_device.h"

#include <sched.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "iobackend/backing_transfer.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

constexpr int kDefaultMaxRings = 4;

int RingCount(int wanted) {
  if (wanted > 0) return wanted;
  return std::clamp<int>(std::thread::hardware_concurrency(), 1,
                         kDefaultMaxRings);
}

}  // namespace

class UringBackingDevice::Transfer final : public RingOperation {
 public:
  Transfer(BackingFile& file, BackingRequest request)
      : transfer_(file, std::move(request)) {}

  bool needs_io() const override { return !transfer_.is_finished(); }

  void Prepare(io_uring_sqe* sqe) override {
    const BackingCall& call = transfer_.call();
    switch (call.function) {
      case BackingCall::Function::kReadv:
        io_uring_prep_readv(sqe, call.fd, call.buffers, call.buffer_count,
                            call.offset);
        break;
      case BackingCall::Function::kWritev:
        io_uring_prep_writev(sqe, call.fd, call.buffers, call.buffer_count,
                             call.offset);
        break;
      case BackingCall::Function::kFallocate:
        io_uring_prep_fallocate(sqe, call.fd, call.mode, call.offset,
                                call.length);
        break;
      case BackingCall::Function::kFdatasync:
        io_uring_prep_fsync(sqe, call.fd, IORING_FSYNC_DATASYNC);
        break;
    }
  }

  bool Advance(int result) override {
    transfer_.Advance(result);
    return transfer_.is_finished();
  }

  void Finish() override { transfer_.Finish(); }

 private:
  BackingTransfer transfer_;
};

absl::StatusOr<std::unique_ptr<UringBackingDevice>> UringBackingDevice::Create(
    std::unique_ptr<BackingFile> file, const Options& options) {
  if (options.rings < 0 || options.queue_depth < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("got ", options.rings, " rings of depth ",
                     options.queue_depth, ", wanted at least 1"));
  }
  auto device = absl::WrapUnique(new UringBackingDevice(std::move(file)));
  for (int i = 0; i < RingCount(options.rings); ++i) {
    ASSIGN_OR_RETURN(auto ring,
                     Ring::Create(options.queue_depth, device.get()));
    device->rings_.push_back(std::move(ring));
  }
  return device;
}

void UringBackingDevice::Submit(std::vector<BackingRequest> requests,
                                Submission submission) {
  Ring::Operations operations;
  operations.reserve(requests.size());
  for (BackingRequest& request : requests) {
    if (request.operation != BackingRequest::Operation::kFlush) {
      operations.push_back(
          std::make_unique<Transfer>(*file_, std::move(request)));
    } else if (auto flush = StartFlush(std::move(request))) {
      operations.push_back(std::move(flush));
    }
  }
  ChooseRing().Submit(std::move(operations), submission == Submission::kDirect
                                                 ? RingStart::kWaitForRoom
                                                 : RingStart::kQueued);
}

Ring& UringBackingDevice::ChooseRing() {
  // Completions stay on their ring, which waits for them when it is destroyed;
  // the others may be gone by then.
  if (Ring* const own = Ring::OfThisThread(this)) return *own;
  const int processor = sched_getcpu();
  return *rings_[std::max(processor, 0) % rings_.size()];
}

std::unique_ptr<RingOperation> UringBackingDevice::StartFlush(
    BackingRequest flush) {
  Flushes flushes;
  {
    absl::MutexLock lock(&flush_mutex_);
    if (is_flushing_) {
      waiting_flushes_.push_back(std::move(flush));
      return nullptr;
    }
    is_flushing_ = true;
  }
  flushes.push_back(std::move(flush));
  return MakeFlush(std::move(flushes));
}

std::unique_ptr<RingOperation> UringBackingDevice::MakeFlush(Flushes flushes) {
  BackingRequest flush;
  flush.operation = BackingRequest::Operation::kFlush;
  flush.done = [this,
                flushes = std::move(flushes)](absl::Status status) mutable {
    FinishFlush(std::move(flushes), status);
  };
  return std::make_unique<Transfer>(*file_, std::move(flush));
}

void UringBackingDevice::FinishFlush(Flushes flushes,
                                     const absl::Status& status) {
  Flushes next;
  {
    absl::MutexLock lock(&flush_mutex_);
    next.swap(waiting_flushes_);
    is_flushing_ = !next.empty();
  }
  if (!next.empty()) {
    Ring::Operations operations;
    operations.push_back(MakeFlush(std::move(next)));
    ChooseRing().Submit(std::move(operations), RingStart::kQueued);
  }
  for (BackingRequest& flush : flushes) flush.done(status);
}

}  // namespace pcachefs
