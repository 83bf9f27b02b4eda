// The requests of a mount whose descriptors outlive the daemon.
//
// Somebody else, the holder, keeps the connection's descriptors: the kernel
// then neither ends the connection when the daemon dies nor fails a request
// that it has read. A successor takes the descriptors over, has the kernel send
// again what is unanswered (FUSE_NOTIFY_RESEND, Linux 6.9), and goes on.
//
// The connection is negotiated once. The sessions of a successor, and all but
// the first one of any daemon, are fed the INIT that the first one answered,
// without what that one declined: what the kernel was told cannot be changed.
//
// Each descriptor has a session, since libfuse answers where the session
// reads, and a request must be answered where it was read.

#ifndef PCACHEFS_FUSE_FAILOVER_CHANNELS_H_
#define PCACHEFS_FUSE_FAILOVER_CHANNELS_H_

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "fuse/connection.h"
#include "fuse/crash_guard.h"
#include "fuse/failover_state.h"
#include "fuse/libfuse.h"
#include "fuse/ring_channels.h"
#include "fuse/transport.h"

namespace pcachefs {

// How a daemon serves under failover.
struct FailoverOptions {
  FailoverState* state = nullptr;  // outlives the server; null: no failover
  // Of the mount that is taken over; empty: there is none, mount.
  std::vector<int> descriptors;
  FailoverKind kind = FailoverKind::kFull;
  // Over io_uring, whose requests outlive a hand-over but not a death.
  int ring_depth = 0;  // 0: not
  // Gives the holder the descriptors of a mount just made.
  absl::AnyInvocable<absl::Status(std::span<const int>)> hold;
  // For tests: a write there ends the process.
  std::optional<uint64_t> lethal_offset;
};

class FailoverChannels {
 public:
  // Makes the session of one descriptor, mounted at the place: the mountpoint,
  // or /dev/fd/N.
  using SessionMaker = absl::AnyInvocable<absl::StatusOr<fuse_session*>(
      const std::string& place)>;

  // Mounts or takes over. `connection` outlives it.
  static absl::StatusOr<std::unique_ptr<FailoverChannels>> Open(
      const std::string& mountpoint, int threads, FailoverOptions& options,
      Connection& connection, SessionMaker make_session);
  // Leaves the mount as it is.
  ~FailoverChannels();
  FailoverChannels(const FailoverChannels&) = delete;
  FailoverChannels& operator=(const FailoverChannels&) = delete;

  // Serves until End, or until unmounted from outside.
  absl::Status Run();
  // Makes Run return: no request is read any more. Waits for the threads.
  void End();
  // For a successor, which gets what comes from the end of Run on: once what
  // was begun is answered or given up.
  void FinishHandOver(const std::string& mountpoint);
  // The mount has gone.
  bool is_unmounted() const { return is_unmounted_; }

 private:
  struct Channel {
    fuse_session* session = nullptr;
    int fd = -1;
  };

  FailoverChannels(int threads, FailoverState& state, Connection& connection,
                   bool is_successor)
      : threads_(threads),
        state_(state),
        connection_(connection),
        is_successor_(is_successor),
        guard_(state.shared().crashes, is_successor) {}

  absl::Status MountAll(const std::string& mountpoint,
                        FailoverOptions& options, SessionMaker& make_session);
  absl::Status TakeOver(std::span<const int> descriptors,
                        SessionMaker& make_session);
  absl::Status AddRings(std::unique_ptr<RingMemory> memory);
  absl::Status AddChannel(int fd, SessionMaker& make_session);
  absl::Status NegotiateFirst(const Channel& channel, bool over_ring);
  absl::Status NegotiateAgain(const Channel& channel);
  absl::Status Resend();

  void ServeThread(const Channel& channel);
  // False: serve no more.
  bool ServeOne(const Channel& channel, std::span<std::byte> buffer);
  bool ServeOneCarefully(const Channel& channel, std::span<std::byte> buffer);
  std::optional<size_t> Receive(const Channel& channel,
                                std::span<std::byte> buffer);
  // Whether it was sent again.
  bool Handle(const Channel& channel, std::span<std::byte> request);
  void NoteCalm();

  const int threads_;
  FailoverState& state_;
  Connection& connection_;
  const bool is_successor_;
  std::optional<uint64_t> lethal_offset_;
  CrashGuard guard_;
  std::vector<Channel> channels_;
  std::unique_ptr<RingChannels> rings_;  // null: not over io_uring

  std::atomic<bool> must_end_ = false;
  std::atomic<bool> is_unmounted_ = false;
  std::atomic<int> running_ = 0;
  // A request has come that is not sent again: all that are have come.
  std::atomic<bool> has_seen_new_ = false;
  std::atomic<bool> is_calm_ = false;
  std::atomic<int> error_ = 0;
  absl::Mutex careful_mutex_;
  absl::Mutex threads_mutex_;
  std::vector<pthread_t> running_threads_ ABSL_GUARDED_BY(threads_mutex_);
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_FAILOVER_CHANNELS_H_
