#include "fuse/json_members.h"

#include "absl/strings/str_cat.h"
#include "meta/size_parser.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

// No request needs more. Shown in a message, a value is written by a recursive
// function: one of 60000 brackets would use up the stack.
constexpr int kMaxDepth = 8;

}  // namespace

absl::StatusOr<Json> ParseObject(absl::string_view text) {
  bool is_too_deep = false;
  const Json parsed = Json::parse(
      text.begin(), text.end(),
      [&](int depth, Json::parse_event_t /*event*/, Json& /*value*/) {
        is_too_deep = is_too_deep || depth > kMaxDepth;
        return !is_too_deep;
      },
      /*allow_exceptions=*/false);
  if (is_too_deep) {
    return absl::InvalidArgumentError(
        absl::StrCat("request: want at most ", kMaxDepth, " levels"));
  }
  if (parsed.is_object()) return parsed;
  return absl::InvalidArgumentError("request is not a JSON object");
}

absl::StatusOr<std::string> StringMember(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::string();
  if (!found->is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, ": got ", ToText(*found), ", want a string"));
  }
  return found->get<std::string>();
}

absl::StatusOr<bool> BoolMember(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return false;
  if (!found->is_boolean()) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, ": got ", ToText(*found), ", want true or false"));
  }
  return found->get<bool>();
}

absl::StatusOr<std::string> ValueMember(const Json& object) {
  const auto found = object.find("value");
  if (found == object.end() || found->is_structured() || found->is_null()) {
    return absl::InvalidArgumentError("set: value is missing");
  }
  return found->is_string() ? found->get<std::string>() : ToText(*found);
}

absl::StatusOr<uint64_t> NumberMember(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found != object.end() && found->is_number_unsigned()) {
    return found->get<uint64_t>();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(key, ": want a number that is not negative"));
}

bool IsTrue(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

absl::StatusOr<uint64_t> SizeMember(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return 0;
  if (found->is_number_unsigned()) return found->get<uint64_t>();
  ASSIGN_OR_RETURN(const std::string text, StringMember(object, key));
  if (text.empty()) return 0;
  const absl::StatusOr<uint64_t> size = ParseSize(text);
  if (size.ok()) return size;
  return absl::InvalidArgumentError(
      absl::StrCat(key, ": ", size.status().message()));
}

}  // namespace pcachefs
