// The socket behind a MetricsAddress, and the file of one on a unix socket.

#ifndef PCACHEFS_TOOLS_LISTENING_SOCKET_H_
#define PCACHEFS_TOOLS_LISTENING_SOCKET_H_

#include <sys/types.h>

#include <memory>

#include "absl/status/statusor.h"
#include "tools/metrics_address.h"

namespace pcachefs {

class ListeningSocket {
 public:
  // Bound and listening, not blocking. AlreadyExists if something else is
  // there.
  static absl::StatusOr<std::unique_ptr<ListeningSocket>> Open(
      const MetricsAddress& address);
  // Removes the file if it is still the one that Open made.
  ~ListeningSocket();
  ListeningSocket(const ListeningSocket&) = delete;
  ListeningSocket& operator=(const ListeningSocket&) = delete;

  int fd() const { return fd_; }
  const MetricsAddress& address() const { return address_; }

 private:
  ListeningSocket(const MetricsAddress& address, int fd)
      : address_(address), fd_(fd) {}

  absl::Status Bind();
  absl::Status BindFile();
  absl::Status BindPort();

  MetricsAddress address_;
  const int fd_;
  bool has_file_ = false;
  dev_t file_device_ = 0;
  ino_t file_inode_ = 0;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_LISTENING_SOCKET_H_
