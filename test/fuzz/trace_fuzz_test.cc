// Feeds text to the parser of block traces.

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "test/fuzz/require.h"
#include "tools/simulation/trace.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pcachefs;  // NOLINT: the function must be outside
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto trace = ParseTrace(text, "x");
  if (!trace.ok()) return 0;
  double time = 0;
  for (const TraceRequest& request : *trace) {
    Require(request.time >= time, "time does not fall");
    Require(request.length >= 1 && request.length <= kMaxTraceLength,
            "lengths are in range");
    Require(request.offset < kMaxTraceEnd, "offsets are in range");
    time = request.time;
  }
  return 0;
}
