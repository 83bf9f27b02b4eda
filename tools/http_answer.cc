#include "tools/http_answer.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace pcachefs {
namespace {

constexpr char kPlain[] = "text/plain; charset=utf-8";
constexpr char kPrometheus[] = "text/plain; version=0.0.4; charset=utf-8";

std::string Answer(absl::string_view status, absl::string_view type,
                   absl::string_view body, absl::string_view header = "") {
  return absl::StrCat("HTTP/1.1 ", status, "\r\nContent-Type: ", type,
                      "\r\nContent-Length: ", body.size(), "\r\n", header,
                      "Connection: close\r\n\r\n", body);
}

std::string Refuse(absl::string_view status, absl::string_view header = "") {
  return Answer(status, kPlain, absl::StrCat(status, "\n"), header);
}

// The bytes in front of the empty line; nullopt if that has not come yet.
std::optional<absl::string_view> HeadOf(absl::string_view received) {
  size_t end = received.find("\n\r\n");
  end = std::min(end, received.find("\n\n"));
  if (end == absl::string_view::npos) return std::nullopt;
  return received.substr(0, end);
}

bool IsPrintable(absl::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return absl::ascii_isgraph(c); });
}

}  // namespace

std::optional<std::string> AnswerHttp(
    absl::string_view received, absl::FunctionRef<std::string()> metrics) {
  const std::optional<absl::string_view> head = HeadOf(received);
  if (!head.has_value() && received.size() < kMaxHttpHead) return std::nullopt;
  if (!head.has_value() || head->size() > kMaxHttpHead) {
    return Refuse("431 Request Header Fields Too Large");
  }
  absl::string_view line = head->substr(0, head->find('\n'));
  absl::ConsumeSuffix(&line, "\r");
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  if (words.size() != 3 || !std::all_of(words.begin(), words.end(),
                                        IsPrintable)) {
    return Refuse("400 Bad Request");
  }
  if (words[2] != "HTTP/1.1" && words[2] != "HTTP/1.0") {
    return absl::StartsWith(words[2], "HTTP/")
               ? Refuse("505 HTTP Version Not Supported")
               : Refuse("400 Bad Request");
  }
  if (words[0] != "GET") {
    return Refuse("405 Method Not Allowed", "Allow: GET\r\n");
  }
  const absl::string_view path = words[1].substr(0, words[1].find('?'));
  if (path == "/metrics") return Answer("200 OK", kPrometheus, metrics());
  if (path == "/") {
    return Answer("200 OK", kPlain, "pcachefs: see /metrics\n");
  }
  return Refuse("404 Not Found");
}

}  // namespace pcachefs
