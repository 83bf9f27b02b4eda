// Serves metrics over HTTP on a loopback or unix socket, on a thread of its
// own. Clients are not trusted: their number, their time and what they may send
// are bounded, and nothing they do delays a request for an image.

#ifndef PCACHEFS_TOOLS_METRICS_LISTENER_H_
#define PCACHEFS_TOOLS_METRICS_LISTENER_H_

#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tools/metrics_address.h"

namespace pcachefs {

class MetricsListener {
 public:
  struct Options {
    int max_connections = 16;  // further ones wait in the kernel's queue
    // From connecting to having taken the answer.
    absl::Duration timeout = absl::Seconds(10);
  };

  // Listens from here on. `metrics` is called on the listener's thread.
  //
  // The socket file of a unix address is for its owner alone (0600) and goes
  // away with the listener. One that nobody listens on is taken for that of a
  // daemon that died, and replaced; whatever else is there is refused, with
  // AlreadyExists, as is a port in use.
  static absl::StatusOr<std::unique_ptr<MetricsListener>> Start(
      const MetricsAddress& address, absl::AnyInvocable<std::string()> metrics,
      const Options& options);
  static absl::StatusOr<std::unique_ptr<MetricsListener>> Start(
      const MetricsAddress& address,
      absl::AnyInvocable<std::string()> metrics) {
    return Start(address, std::move(metrics), Options());
  }

  virtual ~MetricsListener() = default;
  MetricsListener(const MetricsListener&) = delete;
  MetricsListener& operator=(const MetricsListener&) = delete;

  // With the port that was chosen, if any was good.
  virtual const MetricsAddress& address() const = 0;

 protected:
  MetricsListener() = default;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_METRICS_LISTENER_H_
