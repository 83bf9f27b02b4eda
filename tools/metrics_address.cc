#include "tools/metrics_address.h"

#include <sys/un.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace pcachefs {
namespace {

constexpr char kWanted[] =
    "want 127.0.0.1:PORT, [::1]:PORT, localhost:PORT or unix:PATH";
// With its terminating zero.
constexpr size_t kMaxPath = sizeof(sockaddr_un::sun_path) - 1;

absl::Status Refuse(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("got '", text, "', ", why, kWanted));
}

absl::StatusOr<MetricsAddress> ParseUnix(absl::string_view text,
                                         absl::string_view path) {
  if (path.empty() || absl::EndsWith(path, "/") ||
      path.find('\0') != absl::string_view::npos) {
    return Refuse(text, "which names no file; ");
  }
  std::error_code error;
  const auto absolute = std::filesystem::absolute(std::string(path), error);
  if (error) return Refuse(text, "whose path cannot be resolved; ");
  MetricsAddress address;
  address.kind = MetricsAddress::Kind::kUnix;
  address.path = absolute.lexically_normal().string();
  if (address.path.size() > kMaxPath) {
    return Refuse(text, absl::StrCat("a path of ", address.path.size(),
                                     " bytes, of which a socket takes ",
                                     kMaxPath, "; "));
  }
  return address;
}

bool ParsePort(absl::string_view text, uint16_t& port) {
  if (text.empty() || text.size() > 5) return false;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
  }
  uint32_t number = 0;
  if (!absl::SimpleAtoi(text, &number) || number > UINT16_MAX) return false;
  port = static_cast<uint16_t>(number);
  return true;
}

}  // namespace

std::string MetricsAddress::ToString() const {
  switch (kind) {
    case Kind::kIpv4:
      return absl::StrCat("127.0.0.1:", port);
    case Kind::kIpv6:
      return absl::StrCat("[::1]:", port);
    case Kind::kUnix:
      break;
  }
  return absl::StrCat("unix:", path);
}

absl::StatusOr<MetricsAddress> ParseMetricsAddress(absl::string_view text) {
  absl::string_view path = text;
  if (absl::ConsumePrefix(&path, "unix:") || absl::StartsWith(text, "/")) {
    return ParseUnix(text, path);
  }
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return Refuse(text, "");
  const absl::string_view host = text.substr(0, colon);
  MetricsAddress address;
  if (!ParsePort(text.substr(colon + 1), address.port)) {
    return Refuse(text, "whose port is not 0..65535; ");
  }
  if (host == "127.0.0.1" || host == "localhost") return address;
  if (host == "[::1]") {
    address.kind = MetricsAddress::Kind::kIpv6;
    return address;
  }
  return Refuse(text,
                "which other machines could reach, and metrics are served "
                "without a password; ");
}

}  // namespace pcachefs
