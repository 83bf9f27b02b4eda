#include "tools/service_manager.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pcachefs {
namespace {

// The value, which is gone from then on.
std::string Take(const char* name) {
  const char* value = getenv(name);
  std::string text = value == nullptr ? "" : value;
  unsetenv(name);
  return text;
}

absl::Duration WatchdogFromEnvironment() {
  const std::string pid = Take("WATCHDOG_PID");
  int64_t microseconds = 0;
  if (!absl::SimpleAtoi(Take("WATCHDOG_USEC"), &microseconds) ||
      microseconds <= 0 || (!pid.empty() && pid != absl::StrCat(getpid()))) {
    return absl::InfiniteDuration();
  }
  return absl::Microseconds(microseconds);
}

}  // namespace

ServiceManager ServiceManager::FromEnvironment() {
  const absl::Duration watchdog = WatchdogFromEnvironment();
  return ServiceManager(Take("NOTIFY_SOCKET"), watchdog);
}

ServiceManager::ServiceManager(absl::string_view socket_name,
                               absl::Duration watchdog)
    : name_(socket_name), watchdog_(watchdog) {
  // Longer or other ones (vsock:) are not of a manager on this machine.
  if (name_.empty() || name_.size() >= sizeof(sockaddr_un::sun_path) ||
      (name_[0] != '/' && name_[0] != '@')) {
    return;
  }
  if (name_[0] == '@') name_[0] = '\0';
  fd_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  // A manager that hangs holds nobody up for long.
  const timeval timeout = {.tv_sec = 2, .tv_usec = 0};
  setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

ServiceManager::ServiceManager(std::function<void(absl::string_view)> send,
                               absl::Duration watchdog)
    : watchdog_(watchdog), send_(std::move(send)) {}

ServiceManager::ServiceManager(ServiceManager&& other) noexcept
    : name_(std::move(other.name_)),
      watchdog_(other.watchdog_),
      fd_(std::exchange(other.fd_, -1)),
      send_(std::move(other.send_)) {}

ServiceManager::~ServiceManager() {
  if (fd_ >= 0) close(fd_);
}

void ServiceManager::Ready() const {
  // The daemon that left its parent is another process than systemd started.
  Send(absl::StrCat("READY=1\nMAINPID=", getpid()));
}

void ServiceManager::Stopping() const { Send("STOPPING=1"); }

void ServiceManager::Status(absl::string_view text) const {
  Send(absl::StrCat("STATUS=", absl::StrReplaceAll(text, {{"\n", "; "}})));
}

void ServiceManager::IsAlive() const { Send("WATCHDOG=1"); }

void ServiceManager::ExtendTimeout(absl::Duration duration) const {
  Send(absl::StrCat("EXTEND_TIMEOUT_USEC=",
                    absl::ToInt64Microseconds(duration)));
}

void ServiceManager::Store(absl::string_view name,
                           std::span<const int> descriptors) const {
  // Watched, they would wake the manager for every request.
  SendWith(absl::StrCat("FDSTORE=1\nFDPOLL=0\nFDNAME=", name), descriptors);
}

void ServiceManager::RemoveStored(absl::string_view name) const {
  Send(absl::StrCat("FDSTOREREMOVE=1\nFDNAME=", name));
}

void ServiceManager::Send(absl::string_view text) const {
  if (send_ != nullptr) return send_(text);
  SendWith(text, {});
}

void ServiceManager::SendWith(absl::string_view text,
                              std::span<const int> descriptors) const {
  if (fd_ < 0) return;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  name_.copy(address.sun_path, sizeof(address.sun_path) - 1);
  iovec part = {const_cast<char*>(text.data()), text.size()};
  msghdr message = {};
  message.msg_name = &address;
  message.msg_namelen = offsetof(sockaddr_un, sun_path) + name_.size();
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  std::vector<std::max_align_t> control(
      CMSG_SPACE(descriptors.size_bytes()) / sizeof(std::max_align_t) + 1);
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(rights), descriptors.data(),
                descriptors.size_bytes());
  }
  sendmsg(fd_, &message, MSG_NOSIGNAL);
}

bool HasStoredDescriptors() {
  const char* const pid = getenv("LISTEN_PID");
  return pid != nullptr && pid == absl::StrCat(getpid());
}

std::vector<StoredDescriptor> TakeStoredDescriptors() {
  constexpr int kFirst = 3;  // SD_LISTEN_FDS_START
  const std::string pid = Take("LISTEN_PID");
  const std::vector<std::string> names =
      absl::StrSplit(Take("LISTEN_FDNAMES"), ':');
  int count = 0;
  if (!absl::SimpleAtoi(Take("LISTEN_FDS"), &count) ||
      pid != absl::StrCat(getpid())) {
    return {};
  }
  std::vector<StoredDescriptor> stored;
  for (int i = 0; i < count; ++i) {
    fcntl(kFirst + i, F_SETFD, FD_CLOEXEC);
    stored.push_back({static_cast<size_t>(i) < names.size() ? names[i] : "",
                      kFirst + i});
  }
  return stored;
}

}  // namespace pcachefs
