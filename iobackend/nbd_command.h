// A request to an NBD device as commands that its server takes: split to the
// server's maximum, widened to its blocks, zeroes written by hand where it
// cannot zero. No I/O: a connection sends what this says.

#ifndef PCACHEFS_IOBACKEND_NBD_COMMAND_H_
#define PCACHEFS_IOBACKEND_NBD_COMMAND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "iobackend/backing_device.h"
#include "iobackend/nbd_handle.h"

namespace pcachefs {

// One request, of which several pieces may be with the server at a time.
// Guarded by the queue's mutex, but for request(), which stays as it is.
class NbdTransfer {
 public:
  struct Piece {
    uint64_t offset = 0;
    uint64_t length = 0;
    // It changes a part of one of the server's blocks: read, change, write.
    bool is_edge = false;
  };

  NbdTransfer(BackingRequest request, absl::Time submitted)
      : request_(std::move(request)), submitted_(submitted) {}
  // Asks for the extent at `offset` instead; `extent` outlives the transfer.
  NbdTransfer(uint64_t offset, uint64_t length, BackingDevice::Extent* extent,
              BackingRequest::Done done, absl::Time submitted);

  NbdTransfer(const NbdTransfer&) = delete;
  NbdTransfer& operator=(const NbdTransfer&) = delete;

  const BackingRequest& request() const { return request_; }
  BackingDevice::Extent* extent() const { return extent_; }
  absl::Time submitted() const { return submitted_; }

  // The piece to be sent next, if any.
  std::optional<Piece> Next(const NbdLimits& limits) const;
  // It was given to a connection; comes back by Finished().
  void Sent(const Piece& piece);
  void Finished(const absl::Status& status);

  // Nothing more is sent; the request ends with `status`.
  void Fail(const absl::Status& status);

  bool is_finished() const {
    return sent_ == request_.length && outstanding_ == 0;
  }
  // Once finished, with no lock held.
  void RunDone() { request_.done(std::move(status_)); }

 private:
  BackingRequest request_;
  BackingDevice::Extent* const extent_ = nullptr;
  const absl::Time submitted_;
  uint64_t sent_ = 0;  // bytes
  int outstanding_ = 0;
  absl::Status status_;
};

// One piece on its way, or a flush. Owned by one thread at a time.
class NbdCommand {
 public:
  enum class Wire { kRead, kWrite, kZero, kBlockStatus, kFlush };

  // A flush.
  NbdCommand() = default;
  NbdCommand(std::shared_ptr<NbdTransfer> transfer,
             const NbdTransfer::Piece& piece)
      : transfer_(std::move(transfer)), piece_(piece) {}

  bool is_flush() const { return transfer_ == nullptr; }
  const NbdTransfer::Piece& piece() const { return piece_; }
  NbdTransfer& transfer() const { return *transfer_; }
  const std::shared_ptr<NbdTransfer>& shared_transfer() const {
    return transfer_;
  }
  // What of it reached the server changes the device.
  bool is_write() const;
  // Of the operation, for messages.
  const char* name() const;

  // What to send: from the beginning, also after a lost connection.
  void Start(const NbdLimits& limits);
  Wire wire() const { return wire_; }
  uint64_t offset() const { return offset_; }
  uint64_t length() const { return length_; }
  std::byte* data() const { return data_; }
  // A command that zeroes keeps its space.
  bool no_hole() const {
    return transfer_->request().operation == BackingRequest::Operation::kZero;
  }
  // The server did what was sent: false if there is more to send.
  bool Advance();

  // When it went to a server first, and last; infinite past: never.
  absl::Time first_sent = absl::InfinitePast();
  absl::Time last_sent = absl::InfinitePast();
  // Of the completion callback.
  int error = 0;
  void* owner = nullptr;

 private:
  void StartTransfer(const NbdLimits& limits);
  // Copies between the request's buffers and own memory at `skip` in it.
  void Gather(uint64_t skip);
  void Scatter(uint64_t skip);
  std::byte* Contiguous() const;
  void Own(uint64_t length);

  const std::shared_ptr<NbdTransfer> transfer_;
  const NbdTransfer::Piece piece_{};
  Wire wire_ = Wire::kFlush;
  uint64_t offset_ = 0;
  uint64_t length_ = 0;
  std::byte* data_ = nullptr;
  std::unique_ptr<std::byte[]> own_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_NBD_COMMAND_H_
