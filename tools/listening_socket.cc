#include "tools/listening_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "meta/status_macros.h"
#include "tools/metrics_address.h"

namespace pcachefs {
namespace {

using Kind = MetricsAddress::Kind;

constexpr int kBacklog = 16;

absl::Status SystemError(const MetricsAddress& address,
                         absl::string_view call) {
  return absl::ErrnoToStatus(
      errno, absl::StrCat("metrics_listen ", address.ToString(), ": ", call));
}

absl::Status InUse(const MetricsAddress& address, absl::string_view by) {
  return absl::AlreadyExistsError(
      absl::StrCat("metrics_listen ", address.ToString(), ": in use by ", by,
                   "; choose another address, or end that"));
}

sockaddr_un FileAddress(const std::string& path) {
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  path.copy(name.sun_path, sizeof(name.sun_path) - 1);
  return name;
}

bool SomebodyListens(const sockaddr_un& name) {
  const int fd =
      socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return true;  // not known: leave it alone
  const bool refused =
      connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) !=
          0 &&
      errno == ECONNREFUSED;
  close(fd);
  return !refused;
}

// Removes the socket of a daemon that died.
absl::Status RemoveStale(const MetricsAddress& address) {
  struct stat file;
  if (lstat(address.path.c_str(), &file) != 0) {
    return errno == ENOENT ? absl::OkStatus() : SystemError(address, "lstat");
  }
  if (!S_ISSOCK(file.st_mode) || file.st_uid != geteuid()) {
    return InUse(address, S_ISSOCK(file.st_mode) ? "another user's socket"
                                                 : "a file that is no socket");
  }
  if (SomebodyListens(FileAddress(address.path))) {
    return InUse(address, "another process");
  }
  if (unlink(address.path.c_str()) != 0) return SystemError(address, "unlink");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ListeningSocket>> ListeningSocket::Open(
    const MetricsAddress& address) {
  const int family = address.kind == Kind::kUnix   ? AF_UNIX
                     : address.kind == Kind::kIpv6 ? AF_INET6
                                                   : AF_INET;
  const int fd =
      socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return SystemError(address, "socket");
  std::unique_ptr<ListeningSocket> opened(new ListeningSocket(address, fd));
  RETURN_IF_ERROR(opened->Bind());
  if (listen(fd, kBacklog) != 0) return SystemError(address, "listen");
  return opened;
}

ListeningSocket::~ListeningSocket() {
  struct stat file;
  if (has_file_ && lstat(address_.path.c_str(), &file) == 0 &&
      file.st_dev == file_device_ && file.st_ino == file_inode_) {
    unlink(address_.path.c_str());
  }
  close(fd_);
}

absl::Status ListeningSocket::Bind() {
  return address_.kind == Kind::kUnix ? BindFile() : BindPort();
}

absl::Status ListeningSocket::BindFile() {
  RETURN_IF_ERROR(RemoveStale(address_));
  // The file gets the mode of the socket: there is no moment in which others
  // may connect. bind does not follow a symbolic link in the last place.
  if (fchmod(fd_, 0600) != 0) return SystemError(address_, "fchmod");
  const sockaddr_un name = FileAddress(address_.path);
  if (bind(fd_, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0) {
    return errno == EADDRINUSE ? InUse(address_, "another process")
                               : SystemError(address_, "bind");
  }
  struct stat file;
  if (lstat(address_.path.c_str(), &file) != 0) {
    return SystemError(address_, "lstat");
  }
  has_file_ = true;
  file_device_ = file.st_dev;
  file_inode_ = file.st_ino;
  return absl::OkStatus();
}

absl::Status ListeningSocket::BindPort() {
  // So that a restart need not wait for the last connections of the one before.
  const int on = 1;
  setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in6 name6 = {};
  name6.sin6_family = AF_INET6;
  name6.sin6_addr = in6addr_loopback;
  name6.sin6_port = htons(address_.port);
  sockaddr_in name4 = {};
  name4.sin_family = AF_INET;
  name4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name4.sin_port = htons(address_.port);
  const bool is_ipv6 = address_.kind == Kind::kIpv6;
  sockaddr* name = is_ipv6 ? reinterpret_cast<sockaddr*>(&name6)
                           : reinterpret_cast<sockaddr*>(&name4);
  socklen_t size = is_ipv6 ? sizeof(name6) : sizeof(name4);
  if (bind(fd_, name, size) != 0) {
    return errno == EADDRINUSE ? InUse(address_, "another process")
                               : SystemError(address_, "bind");
  }
  if (getsockname(fd_, name, &size) != 0) {
    return SystemError(address_, "getsockname");
  }
  address_.port = ntohs(is_ipv6 ? name6.sin6_port : name4.sin_port);
  return absl::OkStatus();
}

}  // namespace pcachefs
