#include "fuse/transport.h"

#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "fuse/libfuse.h"

namespace pcachefs {
namespace {

constexpr char kParameter[] = "/sys/module/fuse/parameters/enable_uring";

// What stands in the way of io_uring; empty if nothing does.
std::string Obstacle(const TransportFacts& facts) {
  if (!facts.library_has_uring) {
    return absl::StrCat("this build's libfuse ", fuse_pkgversion(),
                        " has no io_uring, 3.18 has");
  }
  if (!facts.kernel_has_uring) {
    return "this kernel has no FUSE over io_uring, Linux 6.14 has";
  }
  if (!facts.kernel_allows_uring) {
    return absl::StrCat("it is switched off; switch it on with: echo 1 > ",
                        kParameter);
  }
  return "";
}

}  // namespace

const char* Name(Transport transport) {
  switch (transport) {
    case Transport::kAuto:
      return "auto";
    case Transport::kDevFuse:
      return "dev_fuse";
    case Transport::kIoUring:
      return "io_uring";
  }
  return "?";
}

absl::StatusOr<Transport> ParseTransport(absl::string_view name) {
  for (const Transport transport :
       {Transport::kAuto, Transport::kDevFuse, Transport::kIoUring}) {
    if (name == Name(transport)) return transport;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("got '", name, "', want auto, io_uring or dev_fuse"));
}

TransportFacts FindTransportFacts() {
  std::ifstream parameter(kParameter);
  char value = 0;
  TransportFacts facts;
  facts.library_has_uring = PCACHEFS_HAVE_FUSE_URING;
  facts.kernel_has_uring = static_cast<bool>(parameter >> value);
  facts.kernel_allows_uring = value == 'Y' || value == '1';
  return facts;
}

absl::StatusOr<TransportChoice> ChooseTransport(Transport wish,
                                                const TransportFacts& facts,
                                                FailoverKind failover) {
  if (failover == FailoverKind::kPlanned) {
    if (wish == Transport::kDevFuse) {
      return absl::FailedPreconditionError(
          "planned_failover: is for --transport=io_uring; on dev_fuse "
          "--failover survives deaths of the daemon too");
    }
    wish = Transport::kIoUring;
  }
  const bool is_full = failover == FailoverKind::kFull;
  if (is_full && wish == Transport::kIoUring) {
    return absl::FailedPreconditionError(
        "transport io_uring: does not go with failover, since the kernel fails "
        "the requests in its rings when the daemon dies; use "
        "--transport=dev_fuse, or --planned_failover, which survives upgrades "
        "only, or --nofailover");
  }
  if (is_full && wish == Transport::kAuto) {
    return TransportChoice{Transport::kDevFuse,
                           "failover: requests in io_uring would not outlive "
                           "the daemon"};
  }
  const std::string obstacle = Obstacle(facts);
  if (wish == Transport::kDevFuse) {
    return TransportChoice{Transport::kDevFuse, "asked for"};
  }
  if (wish == Transport::kIoUring) {
    if (!obstacle.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("transport io_uring: ", obstacle));
    }
    return TransportChoice{Transport::kIoUring, "asked for"};
  }
  // Not by itself yet: libfuse 3.18.3 submits to a ring without the lock under
  // which other threads answer, so a request could be lost, if rarely.
  if (obstacle.empty()) {
    return TransportChoice{Transport::kDevFuse,
                           "io_uring is there if asked for"};
  }
  return TransportChoice{Transport::kDevFuse,
                         absl::StrCat("io_uring is not used: ", obstacle)};
}

}  // namespace pcachefs
