#include "iobackend/nbd_command.h"

#include <algorithm>
#include <cstring>

#include "meta/units.h"

namespace pcachefs {
namespace {

using Operation = BackingRequest::Operation;

constexpr uint64_t kMaxWriteOfZeroes = kMiB;
alignas(kBlockSize) std::byte zeroes[kMaxWriteOfZeroes];

// What one command may ask of the extents.
constexpr uint64_t kMaxStatus = kGiB;

// Calls function(part of a buffer, offset in [0, length)) for the `length`
// bytes at `skip` of all buffers.
template <typename Function>
void ForEachPart(const BackingRequest::Buffers& buffers, uint64_t skip,
                 uint64_t length, Function function) {
  uint64_t done = 0;
  for (const std::span<std::byte> buffer : buffers) {
    if (done == length) return;
    if (skip >= buffer.size()) {
      skip -= buffer.size();
      continue;
    }
    const uint64_t count = std::min(buffer.size() - skip, length - done);
    function(buffer.subspan(skip, count), done);
    skip = 0;
    done += count;
  }
}

}  // namespace

NbdTransfer::NbdTransfer(uint64_t offset, uint64_t length,
                         BackingDevice::Extent* extent,
                         BackingRequest::Done done, absl::Time submitted)
    : extent_(extent), submitted_(submitted) {
  request_.offset = offset;
  request_.length = std::min(length, kMaxStatus);
  request_.done = std::move(done);
}

std::optional<NbdTransfer::Piece> NbdTransfer::Next(
    const NbdLimits& limits) const {
  const uint64_t left = request_.length - sent_;
  if (left == 0) return std::nullopt;
  const uint64_t block = limits.min_block;
  Piece piece = {.offset = request_.offset + sent_, .length = left};
  if (extent_ != nullptr) return piece;

  const uint64_t in_block = piece.offset % block;
  if (request_.operation == Operation::kRead) {
    // Widened to blocks it must still fit.
    piece.length = std::min(left, limits.max_transfer - in_block);
    return piece;
  }
  if (in_block != 0 || left < block) {
    piece.length = std::min(left, block - in_block);
    piece.is_edge = true;
    return piece;
  }
  const bool zeroes_at_server =
      request_.operation != Operation::kWrite && limits.can_zero;
  const uint64_t most =
      zeroes_at_server ? limits.max_zero : uint64_t{limits.max_transfer};
  piece.length = RoundDown(std::min(left, most), block);
  return piece;
}

void NbdTransfer::Sent(const Piece& piece) {
  sent_ += piece.length;
  ++outstanding_;
}

void NbdTransfer::Finished(const absl::Status& status) {
  --outstanding_;
  if (!status.ok()) Fail(status);
}

void NbdTransfer::Fail(const absl::Status& status) {
  if (status_.ok()) status_ = status;
  sent_ = request_.length;
}

bool NbdCommand::is_write() const {
  return !is_flush() && transfer_->extent() == nullptr &&
         transfer_->request().operation != Operation::kRead;
}

const char* NbdCommand::name() const {
  if (is_flush()) return "flush";
  if (transfer_->extent() != nullptr) return "block status";
  switch (transfer_->request().operation) {
    case Operation::kRead:
      return "read";
    case Operation::kWrite:
      return "write";
    case Operation::kZero:
      return "write of zeroes";
    case Operation::kDiscard:
      return "discard";
    case Operation::kFlush:
      break;
  }
  return "flush";
}

void NbdCommand::Start(const NbdLimits& limits) {
  if (is_flush()) return;
  offset_ = piece_.offset;
  length_ = piece_.length;
  if (transfer_->extent() != nullptr) {
    wire_ = Wire::kBlockStatus;
    const uint64_t end =
        RoundUp(offset_ + length_, uint64_t{limits.min_block});
    offset_ = RoundDown(offset_, uint64_t{limits.min_block});
    length_ = end - offset_;
    return;
  }
  StartTransfer(limits);
}

void NbdCommand::StartTransfer(const NbdLimits& limits) {
  const Operation operation = transfer_->request().operation;
  if (operation == Operation::kRead || piece_.is_edge) {
    wire_ = Wire::kRead;
    const uint64_t end =
        RoundUp(offset_ + length_, uint64_t{limits.min_block});
    offset_ = RoundDown(offset_, uint64_t{limits.min_block});
    length_ = end - offset_;
    data_ = length_ == piece_.length && !piece_.is_edge ? Contiguous()
                                                        : nullptr;
    if (data_ == nullptr) Own(length_);
    return;
  }
  if (operation == Operation::kWrite) {
    wire_ = Wire::kWrite;
    data_ = Contiguous();
    if (data_ != nullptr) return;
    Own(length_);
    Gather(0);
    return;
  }
  wire_ = limits.can_zero ? Wire::kZero : Wire::kWrite;
  data_ = zeroes;
}

bool NbdCommand::Advance() {
  if (wire_ != Wire::kRead) return true;
  const uint64_t skip = piece_.offset - offset_;
  if (piece_.is_edge) {
    if (transfer_->request().operation == Operation::kWrite) {
      Gather(skip);
    } else {
      std::memset(data_ + skip, 0, piece_.length);
    }
    wire_ = Wire::kWrite;
    return false;
  }
  if (data_ == own_.get()) Scatter(skip);
  return true;
}

void NbdCommand::Gather(uint64_t skip) {
  const BackingRequest& request = transfer_->request();
  ForEachPart(request.buffers, piece_.offset - request.offset, piece_.length,
              [&](std::span<std::byte> part, uint64_t at) {
                std::memcpy(data_ + skip + at, part.data(), part.size());
              });
}

void NbdCommand::Scatter(uint64_t skip) {
  const BackingRequest& request = transfer_->request();
  ForEachPart(request.buffers, piece_.offset - request.offset, piece_.length,
              [&](std::span<std::byte> part, uint64_t at) {
                std::memcpy(part.data(), data_ + skip + at, part.size());
              });
}

// Where the piece stands in the request's buffers; nullptr if in several.
std::byte* NbdCommand::Contiguous() const {
  const BackingRequest& request = transfer_->request();
  std::byte* found = nullptr;
  ForEachPart(request.buffers, piece_.offset - request.offset, piece_.length,
              [&](std::span<std::byte> part, uint64_t) {
                if (part.size() == piece_.length) found = part.data();
              });
  return found;
}

void NbdCommand::Own(uint64_t length) {
  if (own_ == nullptr) {
    own_ = std::make_unique_for_overwrite<std::byte[]>(length);
  }
  data_ = own_.get();
}

}  // namespace pcachefs
