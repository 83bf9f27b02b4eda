// Feeds what a client of the metrics listener may send, in every beginning of
// it, as it may come in.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "test/fuzz/require.h"
#include "tools/http_answer.h"

namespace pcachefs {
namespace {

constexpr char kMetrics[] = "metrics\n";

void CheckAnswer(absl::string_view answer, bool asked) {
  Require(absl::StartsWith(answer, "HTTP/1.1 "), "an answer is HTTP");
  const size_t end = answer.find("\r\n\r\n");
  Require(end != absl::string_view::npos, "an answer has a head");
  constexpr absl::string_view kLength = "Content-Length: ";
  const size_t begin = answer.find(kLength) + kLength.size();
  size_t length = 0;
  Require(absl::SimpleAtoi(
              answer.substr(begin, answer.find('\r', begin) - begin), &length),
          "an answer says its length");
  Require(answer.size() - end - 4 == length, "an answer is as long as it says");
  Require(asked == absl::StartsWith(answer, "HTTP/1.1 200 OK\r\nContent-Type: "
                                            "text/plain; version=0.0.4"),
          "metrics are asked for iff they are answered");
}

}  // namespace
}  // namespace pcachefs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pcachefs;  // NOLINT: the function must be outside
  const absl::string_view all(reinterpret_cast<const char*>(data), size);
  const size_t step = std::max<size_t>(1, size / 64);
  for (size_t length = 0;; length = std::min(length + step, size)) {
    bool asked = false;
    const auto answer = AnswerHttp(all.substr(0, length), [&] {
      asked = true;
      return std::string(kMetrics);
    });
    Require(answer.has_value() || length < kMaxHttpHead,
            "a client cannot send for ever");
    if (answer.has_value()) {
      CheckAnswer(*answer, asked);
      break;
    }
    if (length == size) break;
  }
  return 0;
}
