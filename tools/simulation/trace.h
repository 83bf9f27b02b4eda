// Block traces: what was read and written, when and where.
//
// As text, one request per line, "time,offset,length,kind": seconds (may have a
// fraction, never falls), bytes, bytes, "read" or "write". Empty lines, lines
// that begin with '#' and a first line of names ("time,...") are left out.

#ifndef PCACHEFS_TOOLS_SIMULATION_TRACE_H_
#define PCACHEFS_TOOLS_SIMULATION_TRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

struct TraceRequest {
  double time = 0;  // seconds
  uint64_t offset = 0;
  uint64_t length = 0;  // bytes, not 0
  bool is_write = false;

  uint64_t end() const { return offset + length; }
  friend bool operator==(const TraceRequest&, const TraceRequest&) = default;
};
using Trace = std::vector<TraceRequest>;

// Largest length of a request and largest end, bytes.
inline constexpr uint64_t kMaxTraceLength = uint64_t{1} << 30;
inline constexpr uint64_t kMaxTraceEnd = uint64_t{1} << 46;

// InvalidArgument, "NAME:LINE: got ..., want ...", for the first bad line, and
// for a trace without requests.
absl::StatusOr<Trace> ParseTrace(absl::string_view text,
                                 absl::string_view name);

std::string FormatTrace(const Trace& trace);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SIMULATION_TRACE_H_
