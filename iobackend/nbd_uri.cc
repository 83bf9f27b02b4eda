#include "iobackend/nbd_uri.h"

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

// What records can hold.
constexpr size_t kMaxIdentity = 255;
constexpr size_t kMaxText = 1023;
constexpr uint32_t kDefaultPort = 10809;
constexpr absl::string_view kTcp[] = {"nbd://", "nbds://"};
constexpr absl::string_view kUnix[] = {"nbd+unix://", "nbds+unix://"};

absl::Status BadUri(absl::string_view text, absl::string_view wanted) {
  return absl::InvalidArgumentError(
      absl::StrCat("got the NBD URI ", absl::CHexEscape(text), ", want ",
                   wanted));
}

bool ConsumeScheme(absl::string_view& rest, bool& is_unix) {
  for (int i = 0; i < 2; ++i) {
    if (absl::ConsumePrefix(&rest, kTcp[i])) {
      is_unix = false;
      return true;
    }
    if (absl::ConsumePrefix(&rest, kUnix[i])) {
      is_unix = true;
      return true;
    }
  }
  return false;
}

// Undoes %XX; false if it is none.
bool Decode(absl::string_view text, std::string& out) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (text.size() - i < 3 || !absl::ascii_isxdigit(text[i + 1]) ||
        !absl::ascii_isxdigit(text[i + 2])) {
      return false;
    }
    out += absl::HexStringToBytes(text.substr(i + 1, 2));
    i += 2;
  }
  return out.find('\0') == std::string::npos;
}

// The value of `key` in the query; empty if it is not there.
absl::string_view Query(absl::string_view query, absl::string_view key) {
  for (absl::string_view pair : absl::StrSplit(query, absl::ByAnyChar("&;"))) {
    if (absl::ConsumePrefix(&pair, key) && absl::ConsumePrefix(&pair, "=")) {
      return pair;
    }
  }
  return {};
}

absl::StatusOr<std::string> TcpAddress(absl::string_view text,
                                       absl::string_view authority) {
  constexpr char kWanted[] =
      "a host and port such as nbd://host:10809/export";
  std::string host;
  absl::string_view port;
  if (absl::StartsWith(authority, "[")) {  // IPv6
    const size_t end = authority.find(']');
    if (end == absl::string_view::npos) return BadUri(text, kWanted);
    host = std::string(authority.substr(0, end + 1));
    port = authority.substr(end + 1);
  } else {
    const size_t colon = authority.find(':');
    if (!Decode(authority.substr(0, colon), host)) return BadUri(text, kWanted);
    if (colon != absl::string_view::npos) port = authority.substr(colon);
  }
  uint32_t number = kDefaultPort;
  if (!port.empty() &&
      (!absl::ConsumePrefix(&port, ":") || !absl::SimpleAtoi(port, &number) ||
       number == 0 || number > 65535)) {
    return BadUri(text, kWanted);
  }
  if (host.empty() || host == "[]") return BadUri(text, kWanted);
  return absl::StrCat("tcp=", absl::AsciiStrToLower(host), ":", number);
}

absl::StatusOr<std::string> UnixAddress(absl::string_view text,
                                        absl::string_view authority,
                                        absl::string_view query) {
  constexpr char kWanted[] =
      "no host and the absolute path of a socket, such as "
      "nbd+unix:///export?socket=/run/nbd.sock";
  std::string socket;
  if (!authority.empty() || !Decode(Query(query, "socket"), socket) ||
      !absl::StartsWith(socket, "/")) {
    return BadUri(text, kWanted);
  }
  return absl::StrCat("unix=", socket);
}

}  // namespace

bool IsNbdUri(absl::string_view spec) {
  bool ignored;
  return ConsumeScheme(spec, ignored);
}

absl::StatusOr<NbdUri> ParseNbdUri(absl::string_view text) {
  absl::string_view rest = text;
  bool is_unix;
  if (!ConsumeScheme(rest, is_unix)) {
    return BadUri(text, "nbd://, nbds://, nbd+unix:// or nbds+unix://");
  }
  if (text.size() > kMaxText) {
    return BadUri(text, absl::StrCat("at most ", kMaxText, " bytes"));
  }
  for (const char c : text) {
    if (!absl::ascii_isgraph(c)) {
      return BadUri(text, "other bytes than visible ASCII written as %XX");
    }
  }

  const std::pair<absl::string_view, absl::string_view> query =
      absl::StrSplit(rest, absl::MaxSplits('?', 1));
  absl::string_view authority = query.first.substr(0, query.first.find('/'));
  absl::string_view path = query.first.substr(authority.size());
  if (const size_t at = authority.rfind('@'); at != absl::string_view::npos) {
    if (absl::StrContains(authority.substr(0, at), ":")) {
      // Not BadUri(), which would show it.
      return absl::InvalidArgumentError(
          "got an NBD URI with a password, want none: keys are in the file "
          "that tls-psk-file= names");
    }
    authority.remove_prefix(at + 1);
  }

  std::string export_name;
  absl::ConsumePrefix(&path, "/");
  if (!Decode(path, export_name)) {
    return BadUri(text, "an export name with % only in %XX");
  }
  ASSIGN_OR_RETURN(const std::string address,
                   is_unix ? UnixAddress(text, authority, query.second)
                           : TcpAddress(text, authority));
  NbdUri uri = {.text = std::string(text),
                .identity = absl::StrCat(address, ",export=", export_name)};
  if (uri.identity.size() > kMaxIdentity) {
    return BadUri(text, absl::StrCat("address and export of at most ",
                                     kMaxIdentity, " bytes, got ",
                                     uri.identity.size()));
  }
  return uri;
}

}  // namespace pcachefs
