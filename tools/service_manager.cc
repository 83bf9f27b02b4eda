#include "tools/service_manager.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
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

ServiceManager::ServiceManager(ServiceManager&& other) noexcept
    : name_(std::move(other.name_)),
      watchdog_(other.watchdog_),
      fd_(std::exchange(other.fd_, -1)) {}

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

void ServiceManager::Send(absl::string_view text) const {
  if (fd_ < 0) return;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  name_.copy(address.sun_path, sizeof(address.sun_path) - 1);
  sendto(fd_, text.data(), text.size(), MSG_NOSIGNAL,
         reinterpret_cast<const sockaddr*>(&address),
         offsetof(sockaddr_un, sun_path) + name_.size());
}

}  // namespace pcachefs
