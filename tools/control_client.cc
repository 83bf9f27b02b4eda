#include "tools/control_client.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "absl/cleanup/cleanup.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fuse/error_json.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(1);
constexpr absl::Duration kLongestPause = absl::Milliseconds(200);
constexpr int kMaxTries = 5;

absl::Status OpenError(const std::string& mount, int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(
          absl::StrCat(mount, ": no pcachefs is mounted here"));
    case ENOTCONN:
      return absl::UnavailableError(absl::StrCat(
          mount, ": its daemon has died; remove the mount with: ", "umount ",
          mount));
    default:
      return absl::ErrnoToStatus(error, mount);
  }
}

// It went with a daemon that has a successor by now.
absl::Status AnswerLost() {
  return absl::AbortedError(
      "the daemon was restarted before its answer was read; see with pcachectl "
      "list and status what came of it, and repeat it if need be");
}

bool IsAnswerLost(const absl::Status& status) {
  return status == AnswerLost();
}

absl::StatusOr<std::string> ReadToEnd(int fd) {
  std::string text;
  char buffer[16 * 1024];
  for (;;) {
    const ssize_t length = read(fd, buffer, sizeof(buffer));
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == ESTALE) return AnswerLost();
    if (length < 0) return absl::ErrnoToStatus(errno, "reading the answer");
    if (length == 0) return text;
    text.append(buffer, length);
  }
}

}  // namespace

absl::StatusOr<Json> ControlClient::Call(const Json& request) const {
  const std::string verb = request.value("verb", "");
  const bool may_repeat =
      verb != "attach" && verb != "detach" && verb != "upgrade";
  for (int tries = 1;; ++tries) {
    absl::StatusOr<Json> answer = CallOnce(request);
    if (!IsAnswerLost(answer.status())) return answer;
    if (!may_repeat || tries == kMaxTries) return answer;
  }
}

absl::StatusOr<Json> ControlClient::CallOnce(const Json& request) const {
  const int fd = open(control_path().c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return OpenError(mount_, errno);
  const auto close_file = absl::MakeCleanup([fd] { close(fd); });

  const std::string text = ToText(request);
  if (write(fd, text.data(), text.size()) !=
      static_cast<ssize_t>(text.size())) {
    if (errno == ESTALE) return AnswerLost();
    return absl::ErrnoToStatus(errno, absl::StrCat(mount_, ": request"));
  }
  ASSIGN_OR_RETURN(const std::string answer_text, ReadToEnd(fd));
  Json answer = Json::parse(answer_text, nullptr, false);
  RETURN_IF_ERROR(StatusFromJson(answer));
  return answer;
}

absl::StatusOr<Json> ControlClient::RunOperation(
    const Json& request, absl::FunctionRef<void(const Json&)> progress) const {
  ASSIGN_OR_RETURN(Json begun, Call(request));
  const std::string verb = request.value("verb", "");
  const bool may_repeat = verb != "attach" && verb != "detach";
  absl::Duration pause = kFirstPause;
  for (;;) {
    absl::StatusOr<Json> answer = Call(
        {{"verb", "operation"}, {"operation", begun["operation"]}});
    if (absl::IsAborted(answer.status()) && may_repeat) {
      // The daemon that had begun it has a successor, which has not.
      ASSIGN_OR_RETURN(begun, Call(request));
      continue;
    }
    RETURN_IF_ERROR(answer.status());
    progress(*answer);
    if (answer->value("done", false)) return answer;
    absl::SleepFor(pause);
    pause = std::min(2 * pause, kLongestPause);
  }
}

absl::StatusOr<Json> ControlClient::Status(const std::string& name) const {
  ASSIGN_OR_RETURN(Json answer, Call({{"verb", "status"}, {"name", name}}));
  return answer["status"];
}

bool ControlClient::IsAlive() const {
  struct stat attributes;
  return stat(control_path().c_str(), &attributes) == 0;
}

}  // namespace pcachefs
