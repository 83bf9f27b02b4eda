// A FUSE mount: session, transport, threads, orderly stop. Knows nothing of
// what is mounted: that is in the operations it is given.
//
//   ASSIGN_OR_RETURN(auto server, FuseServer::Mount(options, operations, &fs));
//   absl::Status status = server->Serve([] { /* the mount answers */ });
//
// Mount, Serve and the destructor belong to one thread; Stop and the accessors
// to any.

#ifndef PCACHEFS_FUSE_FUSE_SERVER_H_
#define PCACHEFS_FUSE_FUSE_SERVER_H_

#include <pthread.h>

#include <atomic>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "fuse/connection.h"
#include "fuse/failover_channels.h"
#include "fuse/libfuse.h"
#include "fuse/transport.h"

namespace pcachefs {

struct FuseServerOptions {
  std::string mountpoint;  // absolute
  Transport transport = Transport::kAuto;
  int threads = 0;      // on the classic channel; 0: by number of processors
  int ring_depth = 32;  // io_uring: requests in flight per processor
  bool allow_other = false;
  // How long a stop waits for requests in flight.
  absl::Duration stop_timeout = absl::Seconds(10);
  // And a hand-over: the successor is sent what is not answered by then.
  absl::Duration hand_over_timeout = absl::Seconds(2);
};

class FuseServer {
 public:
  // Mounts; requests wait until Serve. The server takes `init` of `operations`
  // for itself; handlers find a Connection as user data whose file_system is
  // `file_system`. FailedPrecondition if the wished transport is not to be had.
  // Under failover the mount may be there already, and is taken over.
  static absl::StatusOr<std::unique_ptr<FuseServer>> Mount(
      const FuseServerOptions& options, const fuse_lowlevel_ops& operations,
      void* file_system, FailoverOptions failover = {});
  // Unmounts, lazily if the mount is in use.
  ~FuseServer();
  FuseServer(const FuseServer&) = delete;
  FuseServer& operator=(const FuseServer&) = delete;

  // Serves until Stop or until unmounted from outside. Calls `when_ready` once,
  // on another thread, when a request has made its way through the mount. All
  // requests are answered on return, else DeadlineExceeded: then some are stuck
  // and the process must end without destroying anything that they use.
  absl::Status Serve(absl::AnyInvocable<void()> when_ready);

  // Makes Serve return: refuses new requests, waits for those in flight.
  void Stop();
  // The same for the sake of a successor: no request is refused, none is read
  // any more, and the mount stays. Only under failover.
  void HandOver();
  bool is_handed_over() const { return is_handing_over_ && is_mounted_; }

  const FuseServerOptions& options() const { return options_; }
  // What is really used, known once the mount answers.
  Transport transport() const {
    return connection_.has_seen_ring ? Transport::kIoUring
                                     : Transport::kDevFuse;
  }
  std::string transport_reason() const;
  int threads() const { return options_.threads; }

 private:
  FuseServer(const FuseServerOptions& options, TransportChoice choice,
             bool is_under_failover, void* file_system);

  absl::Status MountSession(const fuse_lowlevel_ops& operations,
                            FailoverOptions failover);
  absl::StatusOr<fuse_session*> MakeSession(
      const fuse_lowlevel_ops& operations, const std::string& place);
  void Unmount();
  absl::Status RunLoop();
  // Asks the mount something until the answer has come, and over the ring if
  // that is chosen and comes about.
  void Probe(absl::AnyInvocable<void()> when_ready);
  // Waits for must_stop_, then brings the loop to its end.
  void EndLoop();

  FuseServerOptions options_;
  const TransportChoice choice_;
  const bool is_under_failover_;
  Connection connection_;
  fuse_session* session_ = nullptr;  // under failover null
  std::unique_ptr<FailoverChannels> channels_;  // else null
  bool is_mounted_ = false;
  bool is_taken_over_ = false;  // and not served yet

  pthread_t loop_thread_ = {};
  std::atomic<bool> has_loop_ended_ = false;
  std::atomic<bool> is_stop_asked_ = false;
  std::atomic<bool> is_handing_over_ = false;
  absl::Notification must_stop_;  // Stop was called, or the loop has ended
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_FUSE_SERVER_H_
