// The obligation to answer one FUSE request, exactly once.
//
//   void Read(FuseReply reply, ...) {
//     if (bad) return reply.Error(EINVAL);
//     image->Flush([reply = std::move(reply)](absl::Status status) mutable {
//       reply.Send(status);
//     });
//   }
//
// Move-only; each answering method uses it up, and dropping it unanswered ends
// the process. Made by the request's handler on the handler's thread; the
// answer may come from any thread. Answer with no lock held: the reply may let
// the kernel send the next request at once.
//
// It is as large as a pointer, so that a callback holding it and one more word
// needs no allocation.

#ifndef PCACHEFS_FUSE_FUSE_REPLY_H_
#define PCACHEFS_FUSE_FUSE_REPLY_H_

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "fuse/connection.h"
#include "fuse/current_request.h"
#include "fuse/libfuse.h"

namespace pcachefs {

class FuseReply {
 public:
  // The session's user data is a Connection.
  explicit FuseReply(fuse_req_t request);
  ~FuseReply();
  FuseReply(FuseReply&& other) noexcept
      : bits_(std::exchange(other.bits_, 0)) {}
  FuseReply& operator=(FuseReply&&) = delete;

  Connection& connection() const;

  // The memory of the transport itself where it has such (io_uring): holds the
  // bytes of a WRITE, or takes those of a READ, until the answer. Empty on the
  // classic channel.
  std::span<std::byte> payload() const;

  void Ok() { Error(0); }
  void Error(int error);  // an errno
  void Send(const absl::Status& status);
  void Entry(const fuse_entry_param& entry);
  void Attributes(const struct stat& attributes, double timeout_seconds);
  // Takes the flags from `info`; `parallel_writes` lets the kernel send direct
  // writes of one file at the same time.
  void Open(const fuse_file_info& info, bool parallel_writes);
  // The bytes are sent before the return, unless they are payload().
  void Data(std::span<const std::byte> bytes);
  // The same for bytes that lie in several places. Not on a ring.
  void Gather(std::span<const std::span<const std::byte>> parts);
  void Written(size_t length);
  void Statfs(const struct statvfs& statistics);
  void Offset(uint64_t offset);
  // FORGET has no answer.
  void None();

 private:
  template <typename Sender>
  void Deliver(Sender sender);
  bool MustHandOver() const;

  // Writes the answer into the request's entry of a ring of ours.
  void AnswerInRing(int error, std::span<const iovec> parts);
  void AnswerInRing(const void* bytes, size_t size);

  static constexpr uintptr_t kResent = 1;
  static constexpr uintptr_t kInRing = 2;
  RingEntry* ring_entry() const {
    return (bits_ & kInRing) == 0
               ? nullptr
               : reinterpret_cast<RingEntry*>(bits_ & ~(kInRing | kResent));
  }
  fuse_req_t request() const;
  bool is_resent() const { return (bits_ & kResent) != 0; }

  // The request's address, and in its lowest bit whether it was sent again to
  // this daemon; 0: none.
  uintptr_t bits_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_FUSE_REPLY_H_
