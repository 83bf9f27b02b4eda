// How a daemon's start ended, told to who started it.
//
//   StartReport report = StartReport::Daemonize();  // before any thread
//   ...
//   report.Ready();     // the command returns 0, the daemon goes on
//   report.Failed(s);   // the command prints a line and returns 1

#ifndef PCACHEFS_TOOLS_START_REPORT_H_
#define PCACHEFS_TOOLS_START_REPORT_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace pcachefs {

// Not thread-safe; Ready may be called on another thread than the others.
class StartReport {
 public:
  // Forks and returns in the child, which is the daemon. The parent waits for
  // the report, or the child's end, and exits.
  static StartReport Daemonize();
  // Reports go to stderr.
  static StartReport Foreground();
  // Reports go to `listener`, who passes them on.
  enum class Word { kWarning, kReady, kFailure };
  using Listener = std::function<void(Word, absl::string_view)>;
  static StartReport To(Listener listener);

  StartReport(StartReport&& other) noexcept;
  StartReport& operator=(StartReport&&) = delete;
  ~StartReport();

  // A line for the user; not after Ready.
  void Warn(absl::string_view line);
  // Gives the terminal up.
  void Ready();
  void Failed(const absl::Status& status);

 private:
  explicit StartReport(int fd) : fd_(fd) {}

  Listener listener_;
  int fd_;  // pipe to the parent; -1: none, or it has been told
};

// "pcachefs: ..." as one line on stderr.
void PrintError(const absl::Status& status);
// Standard input, output and error lead nowhere from now on.
void LeaveTerminal();

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_START_REPORT_H_
