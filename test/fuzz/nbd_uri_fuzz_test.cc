// Feeds text to the parser of NBD URIs. What it accepts goes to libnbd and into
// records and messages.

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "iobackend/nbd_uri.h"
#include "test/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pcachefs;  // NOLINT: the function must be outside
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto uri = ParseNbdUri(text);
  if (!uri.ok()) {
    Require(!IsNbdUri(text) || !uri.status().message().empty(),
            "a refusal says why");
    return 0;
  }
  Require(IsNbdUri(text), "a parsed URI begins as one");
  Require(uri->text == text && text.size() <= 1023, "a record can hold it");
  for (const char c : uri->text) {
    Require(absl::ascii_isgraph(c), "a line of a message can hold it");
  }
  Require(!uri->identity.empty() && uri->identity.size() <= 255,
          "a record can hold what it names");
  Require(uri->identity.find('\0') == std::string::npos,
          "a string of C can hold what it names");
  Require(absl::StartsWith(uri->identity, "tcp=") ||
              absl::StartsWith(uri->identity, "unix=/"),
          "it names a host or a socket");
  const size_t scheme = text.find("://") + 3;
  const absl::string_view authority =
      text.substr(scheme, text.find_first_of("/?", scheme) - scheme);
  const size_t at = authority.rfind('@');
  Require(at == absl::string_view::npos ||
              !absl::StrContains(authority.substr(0, at), ":"),
          "it has no password");
  return 0;
}
