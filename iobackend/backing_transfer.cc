#include "iobackend/backing_transfer.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "meta/units.h"

namespace pcachefs {
namespace {

// Per system call. The kernel transfers less than 2 GiB at a time.
constexpr uint64_t kMaxTransfer = kGiB;
constexpr uint64_t kMaxBounce = kMiB;
// Per system call, so that a range of any size neither holds up what comes
// after nor takes the device for itself: some devices zero by writing.
constexpr uint64_t kMaxFallocate = 64 * kMiB;
constexpr uint64_t kMaxWriteOfZeroes = kMiB;
constexpr size_t kMaxBuffers = IOV_MAX;
// Of a call that was interrupted: only a broken system gets that far.
constexpr int kMaxRetries = 1000;
// Of a read of whole granules that ended before what was asked for: it may have
// been short, or the device ends there.
constexpr int kMaxUselessReads = 100;

alignas(kBlockSize) std::byte zeroes[kMaxWriteOfZeroes];

bool IsInterruption(int error_number) {
  // ECANCELED: the thread that submitted to an io_uring ended meanwhile.
  return error_number == EINTR || error_number == EAGAIN ||
         error_number == ECANCELED;
}

bool IsUnsupported(int error_number) {
  return error_number == EOPNOTSUPP || error_number == ENOSYS ||
         error_number == ENODEV;
}

}  // namespace

BackingTransfer::BackingTransfer(BackingFile& file, BackingRequest request)
    : file_(file), request_(std::move(request)) {
  absl::Status status = file_.Validate(request_);
  if (!status.ok()) {
    Stop(std::move(status));
    return;
  }
  if (request_.operation != Operation::kFlush && request_.length == 0) {
    Stop(absl::OkStatus());
    return;
  }
  Plan();
}

const char* BackingTransfer::operation_name() const {
  switch (request_.operation) {
    case Operation::kRead:
      return "read";
    case Operation::kWrite:
      return "write";
    case Operation::kZero:
      return "zero";
    case Operation::kDiscard:
      return "discard";
    case Operation::kFlush:
      return "flush";
  }
  return "request";
}

void BackingTransfer::Stop(absl::Status status) {
  status_ = std::move(status);
  is_finished_ = true;
}

void BackingTransfer::Advance(int64_t result) {
  if (result < 0) {
    AdvanceAfterError(static_cast<int>(-result));
    return;
  }
  retries_ = 0;
  switch (call_.function) {
    case BackingCall::Function::kFdatasync:
      file_.RefreshAllocation();
      Stop(absl::OkStatus());
      return;
    case BackingCall::Function::kFallocate:
      progress_ += call_.length;
      break;
    case BackingCall::Function::kReadv:
    case BackingCall::Function::kWritev:
      AdvanceAfterTransfer(result);
      break;
  }
  if (is_finished_) return;
  if (remaining() == 0) {
    Stop(absl::OkStatus());
  } else {
    Plan();
  }
}

void BackingTransfer::AdvanceAfterError(int error_number) {
  if (IsInterruption(error_number) && ++retries_ < kMaxRetries) return;
  if (call_.function == BackingCall::Function::kFallocate &&
      (IsUnsupported(error_number) || error_number == EINVAL)) {
    // EINVAL may be about this range only, so it is not remembered.
    if (error_number == EINVAL) {
      avoid_fallocate_ = true;
    } else if ((call_.mode & FALLOC_FL_PUNCH_HOLE) != 0) {
      file_.SetCannotPunch();
    } else {
      file_.SetCannotZero();
    }
    Plan();
    return;
  }
  // The device asks for more alignment than it told.
  if (error_number == EINVAL && call_.fd == file_.direct_fd()) {
    avoid_direct_ = true;
    Plan();
    return;
  }
  Stop(IoError(operation_name(), file_.spec(), position(), remaining(),
               error_number));
}

void BackingTransfer::AdvanceAfterTransfer(uint64_t count) {
  // A bounced read may begin before the request and go beyond it.
  const uint64_t skip = position() - call_.offset;
  if (count > 0 && count <= skip && ++useless_reads_ < kMaxUselessReads) return;
  if (count <= skip) {
    Stop(EndOfDeviceError(operation_name(), file_.spec(), position(),
                          remaining()));
    return;
  }
  useless_reads_ = 0;
  const uint64_t useful = std::min(count - skip, remaining());
  if (is_bounced_ && request_.operation == Operation::kRead) {
    CopyFromBounce(skip, useful);
  }
  progress_ += useful;
}

void BackingTransfer::Plan() {
  is_bounced_ = false;
  switch (request_.operation) {
    case Operation::kRead:
      PlanRead();
      break;
    case Operation::kWrite:
      PlanWrite();
      break;
    case Operation::kZero:
    case Operation::kDiscard:
      PlanZero();
      break;
    case Operation::kFlush:
      // Through the descriptor that may have dirty pages; it covers what the
      // other wrote, since the inode is the same.
      call_ = {.function = BackingCall::Function::kFdatasync,
               .fd = file_.buffered_fd()};
      break;
  }
}

void BackingTransfer::PlanRead() {
  call_ = {.function = BackingCall::Function::kReadv};
  if (!file_.has_direct_access() || avoid_direct_) {
    PlanOwnBuffers(/*direct=*/false);
    return;
  }
  const uint64_t granule = file_.granule();
  if (IsAligned(position() | remaining(), granule) && HasAlignedMemory()) {
    PlanOwnBuffers(/*direct=*/true);
    return;
  }
  PlanBounce(RoundDown(position(), granule),
             RoundUp(position() + remaining(), granule));
}

void BackingTransfer::PlanWrite() {
  call_ = {.function = BackingCall::Function::kWritev};
  if (!file_.has_direct_access() || avoid_direct_ ||
      !IsAligned(position() | remaining(), file_.granule())) {
    PlanOwnBuffers(/*direct=*/false);
    return;
  }
  if (HasAlignedMemory()) {
    PlanOwnBuffers(/*direct=*/true);
    return;
  }
  PlanBounce(position(), position() + remaining());
  CopyToBounce(call_.length);
}

void BackingTransfer::PlanZero() {
  const bool can_punch =
      request_.operation == Operation::kDiscard && file_.can_punch();
  if (avoid_fallocate_ || (!can_punch && !file_.can_zero())) {
    PlanWriteOfZeroes(remaining());
    return;
  }
  const uint64_t granule = file_.allocation_granule();
  const uint64_t boundary = RoundUp(position(), granule);
  if (boundary != position() || remaining() < granule) {
    PlanWriteOfZeroes(std::min(
        remaining(), boundary == position() ? granule : boundary - position()));
    return;
  }
  // KEEP_SIZE: a range beyond the end must not make the file larger.
  PlanFallocate(FALLOC_FL_KEEP_SIZE |
                    (can_punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE),
                RoundDown(std::min(remaining(), kMaxFallocate), granule));
}

void BackingTransfer::PlanFallocate(int mode, uint64_t length) {
  call_ = {.function = BackingCall::Function::kFallocate,
           .fd = file_.buffered_fd(),
           .mode = mode,
           .offset = position(),
           .length = length};
}

void BackingTransfer::PlanWriteOfZeroes(uint64_t length) {
  length = std::min(length, kMaxWriteOfZeroes);
  const bool direct = file_.has_direct_access() && !avoid_direct_ &&
                      IsAligned(position() | length, file_.granule());
  buffers_.assign(1, iovec{zeroes, length});
  call_ = {.function = BackingCall::Function::kWritev,
           .fd = direct ? file_.direct_fd() : file_.buffered_fd(),
           .buffers = buffers_.data(),
           .buffer_count = 1,
           .offset = position(),
           .length = length};
}

// Calls function(part of a buffer) for the next `length` bytes of the request.
template <typename Function>
void BackingTransfer::ForEachPiece(uint64_t length, Function function) const {
  uint64_t skip = progress_;
  for (const std::span<std::byte> buffer : request_.buffers) {
    if (length == 0) return;
    if (skip >= buffer.size()) {
      skip -= buffer.size();
      continue;
    }
    const auto piece = buffer.subspan(skip).first(
        std::min<uint64_t>(buffer.size() - skip, length));
    skip = 0;
    length -= piece.size();
    if (!function(piece)) return;
  }
}

bool BackingTransfer::HasAlignedMemory() const {
  bool aligned = true;
  ForEachPiece(remaining(), [&](std::span<std::byte> piece) {
    aligned = IsAligned(reinterpret_cast<uintptr_t>(piece.data()),
                        file_.memory_alignment()) &&
              IsAligned(piece.size(), file_.granule());
    return aligned;
  });
  return aligned;
}

void BackingTransfer::PlanOwnBuffers(bool direct) {
  buffers_.clear();
  call_.length = 0;
  ForEachPiece(std::min(remaining(), kMaxTransfer),
               [&](std::span<std::byte> piece) {
                 buffers_.push_back({piece.data(), piece.size()});
                 call_.length += piece.size();
                 return buffers_.size() < kMaxBuffers;
               });
  call_.fd = direct ? file_.direct_fd() : file_.buffered_fd();
  call_.buffers = buffers_.data();
  call_.buffer_count = buffers_.size();
  call_.offset = position();
}

void BackingTransfer::PlanBounce(uint64_t begin, uint64_t end) {
  if (bounce_ == nullptr) {
    bounce_.reset(static_cast<std::byte*>(std::aligned_alloc(
        kBlockSize, RoundUp(std::min(end - begin, kMaxBounce), kBlockSize))));
    if (bounce_ == nullptr) {
      Stop(absl::UnavailableError("no memory for an aligned copy"));
      return;
    }
  }
  is_bounced_ = true;
  call_.fd = file_.direct_fd();
  call_.offset = begin;
  call_.length = std::min(end - begin, kMaxBounce);
  buffers_.assign(1, iovec{bounce_.get(), call_.length});
  call_.buffers = buffers_.data();
  call_.buffer_count = 1;
}

void BackingTransfer::CopyToBounce(uint64_t length) {
  std::byte* to = bounce_.get();
  ForEachPiece(length, [&](std::span<std::byte> piece) {
    std::memcpy(to, piece.data(), piece.size());
    to += piece.size();
    return true;
  });
}

void BackingTransfer::CopyFromBounce(uint64_t skip, uint64_t length) {
  const std::byte* from = bounce_.get() + skip;
  ForEachPiece(length, [&](std::span<std::byte> piece) {
    std::memcpy(piece.data(), from, piece.size());
    from += piece.size();
    return true;
  });
}

}  // namespace pcachefs
