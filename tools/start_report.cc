#include "tools/start_report.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "tools/gflags_exit.h"

namespace pcachefs {
namespace {

// What a child writes that has nothing to complain about.
constexpr char kReady[] = "\n";

void PrintLine(absl::string_view line) {
  fprintf(stderr, "pcachefs: %s\n",
          absl::StrReplaceAll(line, {{"\n", "; "}}).c_str());
}

std::string ReadToEnd(int fd) {
  std::string text;
  char buffer[512];
  for (;;) {
    const ssize_t length = read(fd, buffer, sizeof(buffer));
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) return text;
    text.append(buffer, length);
  }
}

[[noreturn]] void WaitForReport(int fd, pid_t child) {
  const std::string text = ReadToEnd(fd);
  if (text == kReady) _exit(kExitOk);
  if (!text.empty()) {
    PrintLine(text);
    _exit(kExitFailure);
  }
  int result = 0;
  waitpid(child, &result, 0);
  PrintLine(WIFSIGNALED(result)
                ? absl::StrCat("the daemon died at its start of signal ",
                               WTERMSIG(result))
                : "the daemon ended at its start without a word");
  _exit(kExitFailure);
}

void WriteAll(int fd, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t length = write(fd, text.data(), text.size());
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) return;  // nobody waits any more
    text.remove_prefix(length);
  }
}

}  // namespace

void LeaveTerminal() {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return;
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    dup2(null, fd);
  }
  close(null);
}

StartReport StartReport::Daemonize() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    PrintLine(absl::StrCat("pipe: ", strerror(errno)));
    _exit(kExitFailure);
  }
  const pid_t child = fork();
  if (child < 0) {
    PrintLine(absl::StrCat("fork: ", strerror(errno)));
    _exit(kExitFailure);
  }
  if (child > 0) {
    close(ends[1]);
    WaitForReport(ends[0], child);
  }
  close(ends[0]);
  setsid();
  // Keeps no file system from being unmounted.
  if (chdir("/") != 0) PrintLine(absl::StrCat("chdir: ", strerror(errno)));
  return StartReport(ends[1]);
}

StartReport StartReport::Foreground() { return StartReport(-1); }

StartReport StartReport::To(Listener listener) {
  StartReport report(-1);
  report.listener_ = std::move(listener);
  return report;
}

StartReport::StartReport(StartReport&& other) noexcept
    : listener_(std::move(other.listener_)), fd_(std::exchange(other.fd_, -1)) {}

StartReport::~StartReport() {
  if (fd_ >= 0) close(fd_);
}

void StartReport::Warn(absl::string_view line) {
  if (listener_) return listener_(Word::kWarning, line);
  PrintLine(absl::StrCat("warning: ", line));
}

void StartReport::Ready() {
  if (listener_) return listener_(Word::kReady, "");
  if (fd_ < 0) return;
  LeaveTerminal();
  WriteAll(fd_, kReady);
  close(std::exchange(fd_, -1));
}

void StartReport::Failed(const absl::Status& status) {
  if (listener_) return listener_(Word::kFailure, status.message());
  if (fd_ < 0) return PrintError(status);
  WriteAll(fd_, status.message());
  close(std::exchange(fd_, -1));
}

void PrintError(const absl::Status& status) { PrintLine(status.message()); }

}  // namespace pcachefs
