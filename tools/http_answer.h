// The little of HTTP/1.1 that a scraper of metrics needs: GET, and one answer
// per connection. Pure: bytes in, bytes out.

#ifndef PCACHEFS_TOOLS_HTTP_ANSWER_H_
#define PCACHEFS_TOOLS_HTTP_ANSWER_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

// A request's head that is longer is refused.
inline constexpr size_t kMaxHttpHead = 8 * 1024;

// The whole answer to what a client has sent so far; nullopt: send more first.
// `metrics` is called only for a GET of /metrics. A body is not looked at.
std::optional<std::string> AnswerHttp(
    absl::string_view received, absl::FunctionRef<std::string()> metrics);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_HTTP_ANSWER_H_
