// How requests travel between kernel and daemon.

#ifndef PCACHEFS_FUSE_TRANSPORT_H_
#define PCACHEFS_FUSE_TRANSPORT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

enum class Transport {
  kAuto,     // as a wish only
  kDevFuse,  // read and write on /dev/fuse
  kIoUring,  // FUSE over io_uring
};

// "auto", "dev_fuse", "io_uring".
const char* Name(Transport transport);
absl::StatusOr<Transport> ParseTransport(absl::string_view name);

// What a mount outlives.
enum class FailoverKind {
  kNone,
  kPlanned,  // upgrades; a death of the daemon is its end
  kFull,     // deaths too
};

struct TransportFacts {
  bool library_has_uring = false;    // libfuse 3.18 or later
  bool kernel_has_uring = false;     // has the module parameter
  bool kernel_allows_uring = false;  // and it is on
};
TransportFacts FindTransportFacts();

struct TransportChoice {
  Transport transport = Transport::kDevFuse;  // never kAuto
  std::string reason;
};

// The one place that decides. FailedPrecondition, saying what to do, if
// io_uring is asked for and cannot be had. It cannot under full failover: a
// request that is in a ring when the daemon dies is failed by the kernel. What
// is only planned is there for nothing else, since the classic channel has all.
absl::StatusOr<TransportChoice> ChooseTransport(Transport wish,
                                                const TransportFacts& facts,
                                                FailoverKind failover =
                                                    FailoverKind::kNone);

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_TRANSPORT_H_
