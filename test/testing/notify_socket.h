// The service manager's end of sd_notify(3): a socket in the abstract namespace
// that takes datagrams.

#ifndef PCACHEFS_TEST_TESTING_NOTIFY_SOCKET_H_
#define PCACHEFS_TEST_TESTING_NOTIFY_SOCKET_H_

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <map>
#include <string>
#include <vector>

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
  ~NotifySocket() {
    DropStored();
    close(fd_);
  }
  NotifySocket(const NotifySocket&) = delete;
  NotifySocket& operator=(const NotifySocket&) = delete;

  // As in NOTIFY_SOCKET.
  const std::string& name() const { return name_; }

  // The next message; empty if none comes in time.
  std::string Next(absl::Duration timeout = absl::Minutes(1)) {
    pollfd polled = {fd_, POLLIN, 0};
    char buffer[4096];
    if (poll(&polled, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) <
        1) {
      return "";
    }
    alignas(cmsghdr) char control[CMSG_SPACE(64 * sizeof(int))];
    iovec part = {buffer, sizeof(buffer)};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t length = recvmsg(fd_, &message, MSG_CMSG_CLOEXEC);
    if (length < 0) return "";
    const std::string text(buffer, length);
    const cmsghdr* rights = CMSG_FIRSTHDR(&message);
    if (rights != nullptr && rights->cmsg_type == SCM_RIGHTS) {
      std::vector<int>& kept = stored_[text.substr(text.find("FDNAME=") + 7)];
      kept.resize((rights->cmsg_len - CMSG_LEN(0)) / sizeof(int));
      std::memcpy(kept.data(), CMSG_DATA(rights), kept.size() * sizeof(int));
    }
    return text;
  }
  // What Next has seen being stored, by name.
  const std::map<std::string, std::vector<int>>& stored() const {
    return stored_;
  }
  void DropStored() {
    for (const auto& [name, kept] : stored_) {
      for (const int fd : kept) close(fd);
    }
    stored_.clear();
  }
  // Passes over messages up to one that begins so; false if none comes.
  bool WaitFor(const std::string& begin,
               absl::Duration timeout = absl::Minutes(1)) {
    const absl::Time deadline = absl::Now() + timeout;
    while (absl::Now() < deadline) {
      if (absl::StartsWith(Next(deadline - absl::Now()), begin)) return true;
    }
    return false;
  }

 private:
  const int fd_;
  std::string name_;
  std::map<std::string, std::vector<int>> stored_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_TESTING_NOTIFY_SOCKET_H_
