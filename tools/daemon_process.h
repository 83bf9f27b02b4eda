// A daemon as its supervisor sees it: a process and a link to it.

#ifndef PCACHEFS_TOOLS_DAEMON_PROCESS_H_
#define PCACHEFS_TOOLS_DAEMON_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tools/supervisor_link.h"

namespace pcachefs {

// An open program file: what it runs stays the same when the file is replaced.
class Program {
 public:
  static absl::StatusOr<Program> Open(const std::string& path);
  Program(Program&& other) noexcept;
  Program& operator=(Program&& other) noexcept;
  ~Program();

  int fd() const { return fd_; }

 private:
  explicit Program(int fd) : fd_(fd) {}

  int fd_;
};

// Closes its descriptors with its end and leaves the process alone. Moved from,
// it is none. Not thread-safe.
class DaemonProcess {
 public:
  DaemonProcess() = default;
  // `passage` without its link, which is made here. To be called without other
  // threads.
  static absl::StatusOr<DaemonProcess> Start(
      const Program& program, const std::vector<std::string>& arguments,
      SupervisorPassage passage);
  DaemonProcess(DaemonProcess&& other) noexcept;
  DaemonProcess& operator=(DaemonProcess&& other) noexcept;
  ~DaemonProcess();

  explicit operator bool() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }
  int pid_fd() const { return pid_fd_; }  // readable once it is dead
  int link() const { return link_; }
  absl::Time start_time() const { return start_; }

  void Signal(int signal) const;
  // Of a dead one: what is left of it goes; "killed by signal 9" or the like,
  // "gone" if it was another one's child.
  std::string Reap();
  void CloseLink();

  bool is_ready = false;
  bool has_ended = false;  // and the mount with it
  int exit_code = 0;
  std::string failure;  // why it could not start

 private:
  pid_t pid_ = -1;
  int pid_fd_ = -1;
  int link_ = -1;
  absl::Time start_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_DAEMON_PROCESS_H_
