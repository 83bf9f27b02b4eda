// Status in Prometheus' text format, version 0.0.4.

#ifndef PCACHEFS_FUSE_METRICS_TEXT_H_
#define PCACHEFS_FUSE_METRICS_TEXT_H_

#include <string>

#include "absl/strings/string_view.h"
#include "core/status.h"
#include "fuse/server_facts.h"

namespace pcachefs {

std::string MetricsText(const CacheStatus& cache, const ServerFacts& server);

// A label's value: backslash, quote and newline escaped.
std::string EscapeLabel(absl::string_view value);

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_METRICS_TEXT_H_
