// What systemd is told of a service of Type=notify: sd_notify(3)'s protocol,
// lines in a datagram to the socket that NOTIFY_SOCKET names. Without that
// variable nothing is sent.
//
// Spoken by hand rather than through libsystemd: it is thirty lines, its
// protocol is promised to be stable, and the program then starts on machines
// without systemd.

#ifndef PCACHEFS_TOOLS_SERVICE_MANAGER_H_
#define PCACHEFS_TOOLS_SERVICE_MANAGER_H_

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pcachefs {

// Thread-safe. What cannot be sent is forgotten: that the manager does not
// listen is no reason not to serve.
class ServiceManager {
 public:
  // Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment,
  // so that nobody we start speaks for us. Before any thread.
  static ServiceManager FromEnvironment();
  // `socket` is a path or, behind '@', an abstract name; empty: nobody listens.
  ServiceManager(absl::string_view socket, absl::Duration watchdog);
  // Everything goes to `send`, which knows the manager.
  ServiceManager(std::function<void(absl::string_view)> send,
                 absl::Duration watchdog);

  ServiceManager(ServiceManager&& other) noexcept;
  ServiceManager& operator=(ServiceManager&&) = delete;
  ~ServiceManager();

  bool is_present() const { return fd_ >= 0 || send_ != nullptr; }
  // Within which a sign of life is wanted; infinite: none is.
  absl::Duration watchdog() const { return watchdog_; }

  void Ready() const;
  void Stopping() const;
  // One line for `systemctl status`.
  void Status(absl::string_view text) const;
  void IsAlive() const;
  // Start or stop may take so much longer, from now on.
  void ExtendTimeout(absl::Duration duration) const;
  // Lines of the protocol as they are.
  void Send(absl::string_view text) const;

  // Descriptors that the manager keeps for the next process of the service,
  // under a name; it does not watch them. See TakeStoredDescriptors.
  void Store(absl::string_view name, std::span<const int> descriptors) const;
  void RemoveStored(absl::string_view name) const;

 private:
  void SendWith(absl::string_view text, std::span<const int> descriptors) const;

  std::string name_;  // of the socket, as in sockaddr_un
  absl::Duration watchdog_;
  int fd_ = -1;
  std::function<void(absl::string_view)> send_;
};

struct StoredDescriptor {
  std::string name;
  int fd;
};
// Whether there are any.
bool HasStoredDescriptors();
// What the manager kept for us (LISTEN_FDS), now with CLOEXEC. Takes the
// variables out of the environment.
std::vector<StoredDescriptor> TakeStoredDescriptors();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SERVICE_MANAGER_H_
