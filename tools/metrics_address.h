// Where metrics are served: --metrics_listen=ADDR.

#ifndef PCACHEFS_TOOLS_METRICS_ADDRESS_H_
#define PCACHEFS_TOOLS_METRICS_ADDRESS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

struct MetricsAddress {
  enum class Kind { kIpv4, kIpv6, kUnix };
  Kind kind = Kind::kIpv4;
  uint16_t port = 0;  // 0: any free one
  std::string path;   // of kUnix; absolute

  std::string ToString() const;
  friend bool operator==(const MetricsAddress&,
                         const MetricsAddress&) = default;
};

// 127.0.0.1:PORT, localhost:PORT (which is the same), [::1]:PORT, unix:PATH or
// an absolute PATH. What other machines could reach is refused: metrics are
// served without a password. InvalidArgument with got and wanted.
absl::StatusOr<MetricsAddress> ParseMetricsAddress(absl::string_view text);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_METRICS_ADDRESS_H_
