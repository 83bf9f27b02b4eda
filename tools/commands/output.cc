#include "tools/commands/output.h"

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "fuse/error_json.h"
#include "fuse/status_json.h"
#include "meta/size_parser.h"

namespace pcachefs {

void PrintJson(const Json& json) { PrintText(ToText(json) + "\n"); }

void PrintText(absl::string_view text) {
  fwrite(text.data(), 1, text.size(), stdout);
  fflush(stdout);
}

void PrintFailure(const absl::Status& status, bool json) {
  if (json) PrintJson(ErrorToJson(status));
  fprintf(stderr, "pcachectl: %s\n",
          absl::StrReplaceAll(status.message(), {{"\n", "; "}}).c_str());
}

std::string TextOf(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return "";
  return found->is_string() ? found->get<std::string>() : ToText(*found);
}

uint64_t NumberOf(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number()) return 0;
  return found->get<uint64_t>();
}

std::string SizeOf(const Json& json, const char* key) {
  return FormatSize(NumberOf(json, key));
}

}  // namespace pcachefs
