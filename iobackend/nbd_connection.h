// One connection to an NBD server and the thread that serves it: sends what the
// queue gives, polls, and connects again when the server is gone.

#ifndef PCACHEFS_IOBACKEND_NBD_CONNECTION_H_
#define PCACHEFS_IOBACKEND_NBD_CONNECTION_H_

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "iobackend/nbd_command.h"
#include "iobackend/nbd_handle.h"
#include "iobackend/nbd_queue.h"
#include "iobackend/nbd_uri.h"

namespace pcachefs {

struct NbdTimes {
  // A command fails when it is not done, and its server has been silent, for so
  // long; or, whatever else the server did, for ten times so long.
  absl::Duration deadline = absl::Seconds(30);
  absl::Duration connect = absl::Seconds(10);
  // Between attempts to connect, doubling.
  absl::Duration retry_first = absl::Milliseconds(100);
  absl::Duration retry_last = absl::Seconds(5);
};

// What all connections of a device need to know of it.
struct NbdShared {
  const NbdUri uri;
  const NbdLimits limits;  // as it was opened
  const bool read_only = false;
  const NbdTimes times;
  // Grows only. A connection that was made when it was smaller is made anew.
  std::atomic<uint64_t> size;
};

// FailedPrecondition unless a server with `limits` can stand in for the one
// that was opened.
absl::Status CheckSameExport(const NbdShared& shared, const NbdLimits& limits);

// The thread runs from construction to the end of the queue, for which the
// destructor waits.
class NbdConnection {
 public:
  // `handle`: connected already, or nullptr.
  NbdConnection(NbdShared& shared, NbdQueue& queue, int port,
                std::unique_ptr<NbdHandle> handle);
  ~NbdConnection();
  NbdConnection(const NbdConnection&) = delete;
  NbdConnection& operator=(const NbdConnection&) = delete;

 private:
  using InFlight = std::list<std::unique_ptr<NbdCommand>>;

  void Loop();
  absl::Status Connect();
  // Waits, but answers and expires.
  void WaitToRetry(absl::Duration how_long);

  // Until the connection is lost, or the queue done (OK).
  absl::Status Serve();
  absl::Status SendAll();
  absl::Status ConnectingAnew() const;
  // Gives it to libnbd; a command that this cannot take has failed.
  absl::Status Send(NbdCommand& command);
  int64_t Issue(NbdCommand& command);
  // What callbacks noted; true if it was anything.
  bool HandleCompleted();
  void HandleCompleted(NbdCommand& command);
  void Finish(NbdCommand& command, const absl::Status& status);
  // When the oldest command in flight is overdue.
  absl::Time NextDeadline() const;
  void Drop(const absl::Status& why);

  static int OnCompleted(void* command, int* error);
  static int OnExtents(void* command, const char* context, uint64_t offset,
                       uint32_t* entries, size_t count, int* error);

  NbdShared& shared_;
  NbdQueue& queue_;
  const int port_;

  // Of the thread.
  std::unique_ptr<NbdHandle> handle_;
  InFlight in_flight_;
  std::vector<NbdCommand*> completed_;
  absl::Time last_answer_;
  absl::Duration back_off_;
  // The server asked for it, by ESHUTDOWN.
  bool is_shutting_down_ = false;

  std::thread thread_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_NBD_CONNECTION_H_
