// Requests as JSON: parsed with bounds, and their members read with the right
// type. Errors are InvalidArgument and name the member.

#ifndef PCACHEFS_FUSE_JSON_MEMBERS_H_
#define PCACHEFS_FUSE_JSON_MEMBERS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fuse/status_json.h"

namespace pcachefs {

// One object, of few levels.
absl::StatusOr<Json> ParseObject(absl::string_view text);

// Empty, false or 0 if it is not there.
absl::StatusOr<std::string> StringMember(const Json& object, const char* key);
absl::StatusOr<bool> BoolMember(const Json& object, const char* key);
// In bytes, as a number or with a letter.
absl::StatusOr<uint64_t> SizeMember(const Json& object, const char* key);

// Those that must be there.
absl::StatusOr<uint64_t> NumberMember(const Json& object, const char* key);
// Of a setting: may be written as a string, number or boolean.
absl::StatusOr<std::string> ValueMember(const Json& object);

// There, a boolean, and true.
bool IsTrue(const Json& object, const char* key);

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_JSON_MEMBERS_H_
