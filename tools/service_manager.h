// What systemd is told of a service of Type=notify: sd_notify(3)'s protocol,
// lines in a datagram to the socket that NOTIFY_SOCKET names. Without that
// variable nothing is sent.
//
// Spoken by hand rather than through libsystemd: it is thirty lines, its
// protocol is promised to be stable, and the program then starts on machines
// without systemd.

#ifndef PCACHEFS_TOOLS_SERVICE_MANAGER_H_
#define PCACHEFS_TOOLS_SERVICE_MANAGER_H_

#include <string>

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

  ServiceManager(ServiceManager&& other) noexcept;
  ServiceManager& operator=(ServiceManager&&) = delete;
  ~ServiceManager();

  bool is_present() const { return fd_ >= 0; }
  // Within which a sign of life is wanted; infinite: none is.
  absl::Duration watchdog() const { return watchdog_; }

  void Ready() const;
  void Stopping() const;
  // One line for `systemctl status`.
  void Status(absl::string_view text) const;
  void IsAlive() const;
  // Start or stop may take so much longer, from now on.
  void ExtendTimeout(absl::Duration duration) const;

 private:
  void Send(absl::string_view text) const;

  std::string name_;  // of the socket, as in sockaddr_un
  absl::Duration watchdog_;
  int fd_ = -1;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SERVICE_MANAGER_H_
