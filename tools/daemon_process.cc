#include "tools/daemon_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "iobackend/monotonic_time.h"

namespace pcachefs {
namespace {

// In the child: what it inherits by number, everything else has CLOEXEC.
void Inherit(int fd) { fcntl(fd, F_SETFD, 0); }

[[noreturn]] void Become(const Program& program,
                         const std::vector<std::string>& arguments,
                         const SupervisorPassage& passage) {
  Inherit(passage.link);
  Inherit(passage.state);
  for (const int fd : passage.channels) Inherit(fd);
  std::vector<std::string> environment = {absl::StrCat(
      SupervisorPassage::kVariable, "=", passage.ToText())};
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!absl::StartsWith(*variable, SupervisorPassage::kVariable)) {
      environment.push_back(*variable);
    }
  }
  std::vector<char*> words;
  for (const std::string& word : arguments) {
    words.push_back(const_cast<char*>(word.c_str()));
  }
  words.push_back(nullptr);
  std::vector<char*> variables;
  for (std::string& variable : environment) {
    variables.push_back(variable.data());
  }
  variables.push_back(nullptr);
  syscall(SYS_execveat, program.fd(), "", words.data(), variables.data(),
          AT_EMPTY_PATH);
  SendSupervisorMessage(passage.link, SupervisorWord::kFailed, 0,
                        absl::StrCat("cannot be run: ", strerror(errno)));
  _exit(127);
}

}  // namespace

absl::StatusOr<Program> Program::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_PATH | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, path);
  return Program(fd);
}

Program::Program(Program&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)) {}

Program& Program::operator=(Program&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Program::~Program() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<DaemonProcess> DaemonProcess::Start(
    const Program& program, const std::vector<std::string>& arguments,
    SupervisorPassage passage) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "socketpair");
  }
  passage.link = ends[1];
  DaemonProcess process;
  process.link_ = ends[0];
  process.start_ = MonotonicNow();
  process.pid_ = fork();
  if (process.pid_ == 0) Become(program, arguments, passage);
  const int error = errno;
  close(ends[1]);
  if (process.pid_ < 0) return absl::ErrnoToStatus(error, "fork");
  process.pid_fd_ = static_cast<int>(syscall(SYS_pidfd_open, process.pid_, 0));
  if (process.pid_fd_ < 0) return absl::ErrnoToStatus(errno, "pidfd_open");
  return process;
}

DaemonProcess::DaemonProcess(DaemonProcess&& other) noexcept {
  *this = std::move(other);
}

DaemonProcess& DaemonProcess::operator=(DaemonProcess&& other) noexcept {
  std::swap(is_ready, other.is_ready);
  std::swap(has_ended, other.has_ended);
  std::swap(exit_code, other.exit_code);
  std::swap(failure, other.failure);
  std::swap(pid_, other.pid_);
  std::swap(pid_fd_, other.pid_fd_);
  std::swap(link_, other.link_);
  std::swap(start_, other.start_);
  return *this;
}

DaemonProcess::~DaemonProcess() {
  if (link_ >= 0) close(link_);
  if (pid_fd_ >= 0) close(pid_fd_);
}

void DaemonProcess::Signal(int signal) const {
  // By descriptor, so that a number that was given away is never hit.
  if (pid_ > 0) {
    syscall(SYS_pidfd_send_signal, pid_fd_, signal, nullptr, 0);
  }
}

std::string DaemonProcess::Reap() {
  int result = 0;
  pid_t reaped;
  do {
    reaped = waitpid(pid_, &result, 0);
  } while (reaped < 0 && errno == EINTR);
  if (reaped < 0) return "gone";
  if (WIFSIGNALED(result)) {
    return absl::StrCat("killed by signal ", WTERMSIG(result));
  }
  if (!has_ended) exit_code = WEXITSTATUS(result);
  return absl::StrCat("ended with exit code ", WEXITSTATUS(result));
}

void DaemonProcess::CloseLink() {
  if (link_ >= 0) close(std::exchange(link_, -1));
}

}  // namespace pcachefs
