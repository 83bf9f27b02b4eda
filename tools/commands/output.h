// What the verbs print.

#ifndef PCACHEFS_TOOLS_COMMANDS_OUTPUT_H_
#define PCACHEFS_TOOLS_COMMANDS_OUTPUT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "fuse/status_json.h"

namespace pcachefs {

// One object, one line, on stdout.
void PrintJson(const Json& json);
void PrintText(absl::string_view text);
// A line on stderr, and the error as the one object on stdout.
void PrintFailure(const absl::Status& status, bool json);

// Members of an answer; zero or empty where they are not as expected.
std::string TextOf(const Json& json, const char* key);
uint64_t NumberOf(const Json& json, const char* key);
// NumberOf as a size: "1.5G".
std::string SizeOf(const Json& json, const char* key);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_COMMANDS_OUTPUT_H_
