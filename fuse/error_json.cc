#include "fuse/error_json.h"

#include <string>

#include "absl/status/status.h"
#include "fuse/json_members.h"

namespace pcachefs {

Json ErrorToJson(const absl::Status& status) {
  return {{"ok", false},
          {"error",
           {{"code", absl::StatusCodeToString(status.code())},
            {"message", std::string(status.message())}}}};
}

absl::Status StatusFromJson(const Json& answer) {
  if (!answer.is_object()) {
    return absl::InternalError("the answer is not a JSON object");
  }
  if (IsTrue(answer, "ok")) return absl::OkStatus();
  const auto error = answer.find("error");
  if (error == answer.end() || !error->is_object()) {
    return absl::InternalError("the answer has neither ok nor error");
  }
  const std::string code = StringMember(*error, "code").value_or("");
  const std::string message = StringMember(*error, "message").value_or("");
  for (int i = 1; i <= static_cast<int>(absl::StatusCode::kUnauthenticated);
       ++i) {
    const auto candidate = static_cast<absl::StatusCode>(i);
    if (absl::StatusCodeToString(candidate) == code) {
      return absl::Status(candidate, message);
    }
  }
  return absl::UnknownError(message);
}

}  // namespace pcachefs
