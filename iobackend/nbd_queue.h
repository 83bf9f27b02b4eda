// What the connections to one NBD server share: requests that wait, and which
// writes a flush must cover. No I/O; wakes connections through eventfds.
//
// Flushes. A server keeps acknowledged writes in a cache that may be volatile,
// and loses them when it dies; what came before a flush that it acknowledged
// stays. A connection outlives neither its server's process nor that cache, so
// a write is durable once the connection that acknowledged it has acknowledged
// a flush sent later. Hence:
//
//  * A flush goes to every connection that acknowledged writes since its last
//    flush (each write is covered by the flush of its own connection), and
//    succeeds when all have.
//  * A connection that is lost with acknowledged writes that no flush has
//    covered may have taken them along. It fails the flush that is running, or
//    the next one, and those that wait. The writer then writes everything since
//    the last successful flush again (BackingRequest::kFlush says so, and
//    core's writeback repeats its epoch), so nothing is lost.
//  * Commands in flight when a connection is lost were never acknowledged, and
//    are sent again. Whether the server did them once or twice is all the same,
//    for nobody may write a range that is being written.
//  * A server without flush has nothing to flush: writes are durable when it
//    acknowledges them, as far as it can be known; writes since the last
//    flush are repeated here too when its connection is lost.
//
// What no client can rule out: a server that hangs, is given up, and then does
// commands of the lost connection after a later write of the same range through
// a new one. A server that died does nothing any more.

#ifndef PCACHEFS_IOBACKEND_NBD_QUEUE_H_
#define PCACHEFS_IOBACKEND_NBD_QUEUE_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "iobackend/backing_device.h"
#include "iobackend/file_io.h"
#include "iobackend/nbd_command.h"
#include "iobackend/nbd_handle.h"

namespace pcachefs {

// Thread-safe. "Port": the place of a connection, also while it is lost.
class NbdQueue {
 public:
  using Commands = std::vector<std::unique_ptr<NbdCommand>>;

  // `name` is the device's, for messages; `limits` are those of every server
  // that a port connects to; `queue_depth` is of each port.
  NbdQueue(std::string name, const NbdLimits& limits, int ports,
           int queue_depth, absl::Duration deadline);

  // From requests, already found valid; waits while too many wait, if allowed
  // and a server is connected.
  void Add(std::unique_ptr<NbdTransfer> transfer, bool may_wait);
  void AddFlush(BackingRequest::Done done);
  // Runs `done` on a thread of the device.
  void Answer(BackingRequest::Done done, absl::Status status);

  // For the connections from here on.

  // Becomes readable when there is something to do for the port.
  int wake_fd(int port) const { return ports_[port].wake.get(); }
  void ClearWake(int port);
  // Until then, or the timeout; clears it.
  void Wait(int port, absl::Duration timeout);

  void Connected(int port);
  // The commands that were in flight are sent again, but for those that were
  // sent first longer ago than the deadline.
  void Disconnected(int port, Commands in_flight, const absl::Status& why);
  // It was tried in vain.
  void CouldNotConnect(int port, const absl::Status& why);

  // What to send next on the port; nullptr: nothing now.
  std::unique_ptr<NbdCommand> Take(int port);
  void Finish(int port, std::unique_ptr<NbdCommand> command,
              const absl::Status& status);

  // Answers what is finished, with no lock held; true if it was anything.
  bool RunDone();
  // Fails what has waited without any connection for too long.
  void Expire();

  // Lets what is queued end, by failure if there is no connection.
  void Close();
  bool is_closing();
  // Closed, and nothing is left to do.
  bool is_done();

 private:
  using Transfer = std::shared_ptr<NbdTransfer>;
  enum class FlushState { kNone, kWanted, kSent };
  struct Port {
    FileDescriptor wake;
    bool is_connected = false;
    int in_flight = 0;
    // Writes acknowledged, and those that a flush has covered, by number.
    uint64_t acknowledged = 0;
    uint64_t flushed = 0;
    FlushState flush = FlushState::kNone;
    uint64_t flush_target = 0;
  };
  struct Answered {
    BackingRequest::Done done;
    absl::Status status;
  };

  bool HasRoomLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsDoneLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The connection that has least to do, if one has room.
  void WakeOneLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeAllLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void Wake(const Port& port);
  std::unique_ptr<NbdCommand> TakePieceLocked()
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishPieceLocked(const NbdCommand& command, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AnswerIfFinishedLocked(const Transfer& transfer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AnswerLocked(BackingRequest::Done done, absl::Status status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartFlushLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishPortFlushLocked(Port& port, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LoseWritesLocked(Port& port) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status WritesLost() const;
  absl::Status NoAnswer(const NbdCommand& command) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LogOutageLocked(const absl::Status& why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string name_;
  const NbdLimits limits_;
  const int queue_depth_;
  const absl::Duration deadline_;

  absl::Mutex mutex_;
  // Their descriptors never change.
  std::vector<Port> ports_;
  int connected_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time down_since_ ABSL_GUARDED_BY(mutex_);
  absl::Status down_why_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> logged_ ABSL_GUARDED_BY(mutex_);  // of this outage

  // Transfers with pieces to send, and commands to send again, which go first.
  std::deque<Transfer> waiting_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::unique_ptr<NbdCommand>> again_ ABSL_GUARDED_BY(mutex_);
  // Blocks of which a part is being changed, by offset.
  std::set<uint64_t> edges_ ABSL_GUARDED_BY(mutex_);

  // One flush runs at a time; those that come meanwhile share the next.
  std::vector<BackingRequest::Done> flushing_ ABSL_GUARDED_BY(mutex_);
  std::vector<BackingRequest::Done> next_flushes_ ABSL_GUARDED_BY(mutex_);
  int flushes_pending_ ABSL_GUARDED_BY(mutex_) = 0;  // ports
  absl::Status flush_status_ ABSL_GUARDED_BY(mutex_);
  // A connection took along writes, and no flush has said so yet.
  bool lost_writes_ ABSL_GUARDED_BY(mutex_) = false;

  std::deque<Answered> answers_ ABSL_GUARDED_BY(mutex_);
  // Requests whose `done` has not returned.
  uint64_t unanswered_ ABSL_GUARDED_BY(mutex_) = 0;
  bool is_closing_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_NBD_QUEUE_H_
