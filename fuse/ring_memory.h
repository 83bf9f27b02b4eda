// Where the entries of FUSE over io_uring lie that outlive the daemon: memory
// that the holder of the mount keeps, and each daemon maps at the same address.
//
// An entry is registered once. The kernel remembers the two addresses, and
// copies requests and answers from and to whatever process submits: a successor
// that has the same memory there answers what its predecessor was given.

#ifndef PCACHEFS_FUSE_RING_MEMORY_H_
#define PCACHEFS_FUSE_RING_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

namespace pcachefs {

// Of the kernel's protocol 7.42, which Debian's headers do not know yet.
struct RingHeader {
  std::byte in_out[128];       // fuse_in_header, or fuse_out_header
  std::byte operation[128];    // what follows it, as fuse_write_in
  uint64_t flags;
  uint64_t commit_id;
  uint32_t payload_size;
  uint32_t padding;
  uint64_t reserved;
};

// Its place and size never change. What lies in an entry belongs to whoever has
// its request: the kernel, or the thread that handles it.
class RingMemory {
 public:
  // What a daemon knows of an entry, for its successor.
  struct EntryState {
    enum Phase : uint32_t {
      kNew,       // never held a request
      kInHand,    // holds a request without an answer
      kAnswered,  // has an answer, which the kernel may have taken
    };
    std::atomic<uint32_t> phase;
    // Of a request in hand: some of it may have been done.
    std::atomic<uint32_t> is_begun;
  };
  static constexpr size_t kPayloadSize = size_t{1} << 20;
  static constexpr size_t kHeaderSize = 4096;

  static absl::StatusOr<std::unique_ptr<RingMemory>> Create(int queues,
                                                            int depth);
  // Takes the descriptor, also if it fails. FailedPrecondition if it is laid
  // out otherwise, or if something else lies at its address here: another
  // process may have more luck.
  static absl::StatusOr<std::unique_ptr<RingMemory>> Open(int fd);
  ~RingMemory();
  RingMemory(const RingMemory&) = delete;
  RingMemory& operator=(const RingMemory&) = delete;

  int fd() const { return fd_; }
  int queues() const { return static_cast<int>(head().queues); }
  int depth() const { return static_cast<int>(head().depth); }
  EntryState& state(int queue, int entry) const;
  RingHeader& header(int queue, int entry) const {
    return *reinterpret_cast<RingHeader*>(Place(queue, entry));
  }
  // Directly behind the header's page, which has room for a copy of both of the
  // request's headers at its end.
  std::byte* payload(int queue, int entry) const {
    return Place(queue, entry) + kHeaderSize;
  }

 private:
  struct Head {
    static constexpr uint64_t kMagic = 0x3176676e69726370;  // "pcringv1"
    uint64_t magic;
    uint64_t address;
    uint64_t size;
    uint32_t queues;
    uint32_t depth;
  };

  RingMemory(int fd, std::byte* bytes, size_t size)
      : fd_(fd), bytes_(bytes), size_(size) {}

  Head& head() const { return *reinterpret_cast<Head*>(bytes_); }
  size_t Number(int queue, int entry) const {
    return static_cast<size_t>(queue) * head().depth + entry;
  }
  static size_t StatesSize(int queues, int depth);
  static size_t SizeOf(int queues, int depth);
  std::byte* Place(int queue, int entry) const;

  const int fd_;
  std::byte* const bytes_;
  const size_t size_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_RING_MEMORY_H_
