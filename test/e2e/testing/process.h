// Runs other programs and tells what came of them.
//
//   Outcome outcome = RunCommand({"diff", "-r", "a", "b"});
//   EXPECT_THAT(outcome, Succeeds());

#ifndef PCACHEFS_TEST_E2E_TESTING_PROCESS_H_
#define PCACHEFS_TEST_E2E_TESTING_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace pcachefs {

struct Outcome {
  std::string command;
  int exit_code = -1;  // 128 + the signal that ended it, as a shell says it
  bool timed_out = false;
  std::string out;
  std::string err;

  bool ok() const { return exit_code == 0 && !timed_out; }
  friend std::ostream& operator<<(std::ostream& stream, const Outcome& outcome);
};

// A program that runs beside the test; killed with its object, and by the
// kernel when the thread that started it ends. Not thread-safe.
class Process {
 public:
  static absl::StatusOr<std::unique_ptr<Process>> Start(
      const std::vector<std::string>& command);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  void Signal(int signal);
  // True if it has ended by then; further calls are cheap.
  bool WaitFor(absl::Duration timeout);
  // What it wrote so far and, once it has ended, how.
  Outcome outcome() const;

 private:
  Process(std::string command, pid_t pid, int pid_fd, int out_fd, int err_fd);

  const std::string command_;
  const pid_t pid_;
  const int pid_fd_;
  // Files in memory, not pipes: a daemon that keeps them blocks nobody.
  const int out_fd_;
  const int err_fd_;
  bool ended_ = false;
  int exit_code_ = -1;
};

// Runs `command` to its end; kills it after `timeout`.
Outcome RunCommand(const std::vector<std::string>& command,
                   absl::Duration timeout = absl::Minutes(2));

// Calls `predicate` again and again; false if it never was true in time.
template <typename Predicate>
bool WaitUntil(absl::Duration timeout, Predicate predicate) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!predicate()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return true;
}

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_E2E_TESTING_PROCESS_H_
