// What a daemon under failover leaves to its successor beside the cache: memory
// that the holder of the mount keeps, and every daemon of it maps.
//
// Written with plain stores while requests are served, so that it says what was
// true when the daemon died, at whatever instruction that was. Each field has
// one writer at a time; who reads beside it reads atomics.

#ifndef PCACHEFS_FUSE_FAILOVER_STATE_H_
#define PCACHEFS_FUSE_FAILOVER_STATE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace pcachefs {

// A request as the kernel names it, and what it was about.
struct RequestRecord {
  uint64_t unique = 0;
  uint64_t node = 0;
  uint64_t offset = 0;
  uint32_t length = 0;
  uint32_t opcode = 0;
};

// The first daemon's INIT, from which its successors' sessions are made.
struct SharedNegotiation {
  static constexpr size_t kMaxSize = 256;
  uint32_t request_size;
  uint32_t reply_size;
  std::byte request[kMaxSize];
  std::byte reply[kMaxSize];
};

// See crash_guard.h.
struct SharedCrashes {
  struct Suspect {
    RequestRecord request;
    uint32_t deaths;
  };
  static constexpr size_t kSuspects = 8;
  static constexpr size_t kPoisoned = 16;
  RequestRecord trial;
  std::atomic<bool> is_on_trial;
  std::atomic<bool> is_calm;
  Suspect suspects[kSuspects];
  RequestRecord poisoned[kPoisoned];  // the last ones
  std::atomic<uint64_t> poisoned_count;
};

struct SharedCounts {
  std::atomic<uint64_t> daemons;  // that have begun to serve
  std::atomic<uint64_t> restarts;
  std::atomic<uint64_t> upgrades;
  // Monotonic clock; 0: somebody serves, or it is not known.
  std::atomic<int64_t> gone_since_ns;
  std::atomic<int64_t> last_pause_ns;
  std::atomic<int64_t> longest_pause_ns;
  std::atomic<int64_t> supervisor_pid;  // 0: has died
};

// A mount over io_uring: see ring_channels.h.
struct SharedRings {
  std::atomic<uint32_t> are_used;
  // Nobody serves them, and all that is not answered lies in them. Else it is
  // lost with who serves.
  std::atomic<uint32_t> are_held;
};

// The last planned hand-over.
struct SharedUpgrade {
  enum Phase : uint32_t { kNone, kRunning, kDone, kFailed };
  static constexpr size_t kMaxMessage = 512;
  std::atomic<uint64_t> number;
  std::atomic<uint32_t> phase;
  char message[kMaxMessage];  // why it failed; written before the phase
};

// See kept_images.h.
struct SharedImages {
  struct Entry {
    uint64_t tag;
    std::atomic<int32_t> open_count;
    uint32_t has_ownership;
    uint32_t permissions;
    uint32_t uid;
    uint32_t gid;
    int64_t access_ns;
    int64_t modification_ns;
  };
  static constexpr size_t kEntries = 4096;
  static constexpr size_t kCounted = 256;
  struct Change {
    std::atomic<bool> is_valid;
    uint32_t entry;
    int32_t open_count;
    uint64_t unique;
    uint64_t place;  // in `counted`
  };
  Change change;
  uint64_t counted_count;
  uint64_t counted[kCounted];  // uniques, the last ones
  Entry entries[kEntries];
};

struct SharedFailoverState {
  static constexpr uint64_t kMagic = 0x3276726c69616670;  // "pfailrv2"
  static constexpr size_t kMaxPath = 4096;
  uint64_t magic;
  uint64_t size;
  char mountpoint[kMaxPath];
  SharedNegotiation negotiation;
  SharedCrashes crashes;
  SharedCounts counts;
  SharedRings rings;
  SharedUpgrade upgrade;
  SharedImages images;
};

class FailoverState {
 public:
  // New and zeroed.
  static absl::StatusOr<std::unique_ptr<FailoverState>> Create();
  // Takes the descriptor, also if it fails. FailedPrecondition if another
  // version of the program made it and lays it out differently.
  static absl::StatusOr<std::unique_ptr<FailoverState>> Open(int fd);
  ~FailoverState();
  FailoverState(const FailoverState&) = delete;
  FailoverState& operator=(const FailoverState&) = delete;

  int fd() const { return fd_; }
  SharedFailoverState& shared() const { return *shared_; }

  // The daemon has died with requests that no successor can be given.
  bool HasLostRequests() const {
    return shared_->rings.are_used != 0 && shared_->rings.are_held == 0;
  }

  // From now on nobody serves; if somebody has already said so, since then.
  void NoteGone();
  // Somebody serves again: how long nobody did.
  absl::Duration NoteServing();

 private:
  FailoverState(int fd, SharedFailoverState* shared)
      : fd_(fd), shared_(shared) {}

  const int fd_;
  SharedFailoverState* const shared_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_FAILOVER_STATE_H_
