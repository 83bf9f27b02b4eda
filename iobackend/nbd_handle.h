// A connection to an NBD server as libnbd gives it, and what the server said of
// the export. No thread of its own: whoever owns it polls.

#ifndef PCACHEFS_IOBACKEND_NBD_HANDLE_H_
#define PCACHEFS_IOBACKEND_NBD_HANDLE_H_

#include <libnbd.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "iobackend/nbd_uri.h"

namespace pcachefs {

// What a server takes and offers.
struct NbdLimits {
  uint64_t size = 0;          // bytes
  uint32_t min_block = 0;     // of offsets and lengths; at least kSectorSize
  uint32_t max_transfer = 0;  // of a read or write; a multiple of min_block
  uint64_t max_zero = 0;      // of a command that zeroes; the same
  bool read_only = false;
  bool can_flush = false;
  bool can_zero = false;
  bool can_multi_conn = false;  // all connections see one cache
  bool can_tell_extents = false;
};

// Thread-compatible.
class NbdHandle {
 public:
  // Connects and negotiates until `deadline`, or until `cancelled` says so, which
  // is asked now and then and when `wake_fd` (-1: none) becomes readable. NotFound: no such export or socket.
  // InvalidArgument: a size or block size that cannot be served. Else
  // Unavailable. Messages name the URI and what libnbd says. May wait longer
  // for a name server, which libnbd asks synchronously.
  static absl::StatusOr<std::unique_ptr<NbdHandle>> Connect(
      const NbdUri& uri, absl::Time deadline, int wake_fd,
      absl::FunctionRef<bool()> cancelled);

  ~NbdHandle();
  NbdHandle(const NbdHandle&) = delete;
  NbdHandle& operator=(const NbdHandle&) = delete;

  nbd_handle* get() const { return handle_; }
  const NbdLimits& limits() const { return limits_; }

  // Waits for the server, `wake_fd` or the timeout and lets libnbd go on, which
  // runs callbacks of commands. An error once the connection is dead.
  absl::Status Poll(int wake_fd, absl::Duration timeout);

  // OK while commands can be sent.
  absl::Status CheckAlive() const;

  // Tells the server, without waiting for it, that no more commands come.
  void Disconnect();

  // What libnbd said last on this thread, without the name of its function.
  absl::Status LastError() const;

 private:
  NbdHandle(const NbdUri& uri, nbd_handle* handle)
      : uri_(uri), handle_(handle) {}

  absl::Status Start();
  absl::Status ReadLimits();

  const NbdUri uri_;
  nbd_handle* const handle_;
  NbdLimits limits_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_NBD_HANDLE_H_
