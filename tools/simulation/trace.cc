#include "tools/simulation/trace.h"

#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace pcachefs {
namespace {

absl::Status Bad(absl::string_view what, absl::string_view got,
                 absl::string_view want) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": got \"", got.substr(0, 80), "\", want ", want));
}

absl::StatusOr<TraceRequest> ParseLine(absl::string_view line,
                                       double not_before) {
  const std::vector<absl::string_view> fields = absl::StrSplit(line, ',');
  if (fields.size() != 4) {
    return Bad("line", line, "time,offset,length,read|write");
  }
  TraceRequest request;
  if (!absl::SimpleAtod(fields[0], &request.time) ||
      !std::isfinite(request.time) || request.time < not_before) {
    return Bad("time", fields[0],
               absl::StrCat("seconds, at least ", not_before));
  }
  if (!absl::SimpleAtoi(fields[1], &request.offset) ||
      request.offset >= kMaxTraceEnd) {
    return Bad("offset", fields[1], absl::StrCat("bytes below ", kMaxTraceEnd));
  }
  if (!absl::SimpleAtoi(fields[2], &request.length) || request.length == 0 ||
      request.length > kMaxTraceLength) {
    return Bad("length", fields[2],
               absl::StrCat("1 to ", kMaxTraceLength, " bytes"));
  }
  const absl::string_view kind = absl::StripAsciiWhitespace(fields[3]);
  if (kind != "read" && kind != "write") {
    return Bad("kind", fields[3], "read or write");
  }
  request.is_write = kind == "write";
  return request;
}

}  // namespace

absl::StatusOr<Trace> ParseTrace(absl::string_view text,
                                 absl::string_view name) {
  Trace trace;
  int number = 0;
  double time = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    if (trace.empty() && absl::StartsWith(line, "time,")) continue;
    absl::StatusOr<TraceRequest> request = ParseLine(line, time);
    if (!request.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ":", number, ": ", request.status().message()));
    }
    time = request->time;
    trace.push_back(*std::move(request));
  }
  if (trace.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": got no requests, want at least one line ",
                     "time,offset,length,read|write"));
  }
  return trace;
}

std::string FormatTrace(const Trace& trace) {
  std::string text = "time,offset,length,kind\n";
  for (const TraceRequest& request : trace) {
    absl::StrAppendFormat(&text, "%.6f,%u,%u,%s\n", request.time,
                          request.offset, request.length,
                          request.is_write ? "write" : "read");
  }
  return text;
}

}  // namespace pcachefs
