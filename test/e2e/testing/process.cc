#include "test/e2e/testing/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace pcachefs {
namespace {

std::string ReadAll(int fd) {
  std::string content;
  char buffer[16384];
  ssize_t length;
  while ((length = pread(fd, buffer, sizeof buffer, content.size())) > 0) {
    content.append(buffer, length);
  }
  return content;
}

// Runs in the child, where only async-signal-safe functions may be called: the
// test may have threads.
[[noreturn]] void Exec(char* const* argv, int out_fd, int err_fd) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, STDIN_FILENO);
  dup2(out_fd, STDOUT_FILENO);
  dup2(err_fd, STDERR_FILENO);
  execvp(argv[0], argv);
  const char* const parts[] = {argv[0], ": ", strerrordesc_np(errno), "\n"};
  for (const char* part : parts) {
    if (write(STDERR_FILENO, part, strlen(part)) < 0) break;
  }
  _exit(127);
}

}  // namespace

std::ostream& operator<<(std::ostream& stream, const Outcome& outcome) {
  stream << outcome.command << "\n  ";
  if (outcome.timed_out) {
    stream << "timed out";
  } else {
    stream << "exit code " << outcome.exit_code;
  }
  // Enough to see what happened, not pages of diff.
  return stream << "\n  stdout: " << outcome.out.substr(0, 2000)
                << "\n  stderr: " << outcome.err.substr(0, 2000);
}

absl::StatusOr<std::unique_ptr<Process>> Process::Start(
    const std::vector<std::string>& command) {
  std::vector<char*> argv;
  for (const std::string& argument : command) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  const int out_fd = memfd_create("stdout", MFD_CLOEXEC);
  const int err_fd = memfd_create("stderr", MFD_CLOEXEC);
  const pid_t pid = fork();
  if (pid == 0) Exec(argv.data(), out_fd, err_fd);
  if (pid < 0) {
    const int error = errno;
    close(out_fd);
    close(err_fd);
    return absl::ErrnoToStatus(error, absl::StrCat("fork: ", command[0]));
  }
  const int pid_fd = syscall(SYS_pidfd_open, pid, 0);
  return std::unique_ptr<Process>(
      new Process(absl::StrJoin(command, " "), pid, pid_fd, out_fd, err_fd));
}

Process::Process(std::string command, pid_t pid, int pid_fd, int out_fd,
                 int err_fd)
    : command_(std::move(command)),
      pid_(pid),
      pid_fd_(pid_fd),
      out_fd_(out_fd),
      err_fd_(err_fd) {}

Process::~Process() {
  if (!ended_) {
    Signal(SIGKILL);
    WaitFor(absl::Seconds(60));
  }
  close(pid_fd_);
  close(out_fd_);
  close(err_fd_);
}

void Process::Signal(int signal) {
  // By descriptor, so that a process id that was given away is never hit.
  if (!ended_) syscall(SYS_pidfd_send_signal, pid_fd_, signal, nullptr, 0);
}

bool Process::WaitFor(absl::Duration timeout) {
  if (ended_) return true;
  const absl::Time deadline = absl::Now() + timeout;
  pollfd poll_fd = {.fd = pid_fd_, .events = POLLIN, .revents = 0};
  int ready;
  do {
    const absl::Duration rest =
        std::max(deadline - absl::Now(), absl::ZeroDuration());
    ready = poll(&poll_fd, 1, absl::ToInt64Milliseconds(rest));
  } while (ready < 0 && errno == EINTR);
  if (ready <= 0) return false;
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  ended_ = true;
  exit_code_ =
      WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return true;
}

Outcome Process::outcome() const {
  Outcome outcome;
  outcome.command = command_;
  outcome.exit_code = exit_code_;
  outcome.timed_out = !ended_;
  outcome.out = ReadAll(out_fd_);
  outcome.err = ReadAll(err_fd_);
  return outcome;
}

Outcome RunCommand(const std::vector<std::string>& command,
                   absl::Duration timeout) {
  absl::StatusOr<std::unique_ptr<Process>> process = Process::Start(command);
  if (!process.ok()) {
    Outcome outcome;
    outcome.command = absl::StrJoin(command, " ");
    outcome.err = process.status().ToString();
    return outcome;
  }
  (*process)->WaitFor(timeout);
  return (*process)->outcome();
}

}  // namespace pcachefs
