// The service manager's end of sd_notify(3): a socket in the abstract namespace
// that takes datagrams.

#ifndef PCACHEFS_TEST_TESTING_NOTIFY_SOCKET_H_
#define PCACHEFS_TEST_TESTING_NOTIFY_SOCKET_H_

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace pcachefs {

class NotifySocket {
 public:
  NotifySocket() : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    // The kernel chooses an abstract name.
    bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t));
    socklen_t size = sizeof(address);
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    name_ = absl::StrCat(
        "@", std::string(address.sun_path + 1,
                         size - offsetof(sockaddr_un, sun_path) - 1));
  }
  ~NotifySocket() { close(fd_); }
  NotifySocket(const NotifySocket&) = delete;
  NotifySocket& operator=(const NotifySocket&) = delete;

  // As in NOTIFY_SOCKET.
  const std::string& name() const { return name_; }

  // The next message; empty if none comes in time.
  std::string Next(absl::Duration timeout = absl::Seconds(20)) {
    pollfd polled = {fd_, POLLIN, 0};
    char buffer[4096];
    if (poll(&polled, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) <
        1) {
      return "";
    }
    const ssize_t length = recv(fd_, buffer, sizeof(buffer), 0);
    return length < 0 ? "" : std::string(buffer, length);
  }
  // Passes over messages up to one that begins so; false if none comes.
  bool WaitFor(const std::string& begin,
               absl::Duration timeout = absl::Seconds(20)) {
    const absl::Time deadline = absl::Now() + timeout;
    while (absl::Now() < deadline) {
      if (absl::StartsWith(Next(deadline - absl::Now()), begin)) return true;
    }
    return false;
  }

 private:
  const int fd_;
  std::string name_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_TESTING_NOTIFY_SOCKET_H_
