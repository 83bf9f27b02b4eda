// A real NBD server on a socket of its own, that tests kill, stop and start
// again.

#ifndef PCACHEFS_TEST_IOBACKEND_NBD_SERVER_H_
#define PCACHEFS_TEST_IOBACKEND_NBD_SERVER_H_

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "iobackend/file_io.h"
#include "test/iobackend/test_files.h"

namespace pcachefs {

// Connected to the socket at `path`, if somebody listens there.
inline FileDescriptor ConnectTo(const std::string& path) {
  FileDescriptor file(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (connect(file.get(), reinterpret_cast<sockaddr*>(&address),
              sizeof(address)) != 0) {
    return FileDescriptor();
  }
  return file;
}

class NbdServer {
 public:
  // The socket is in `directory`, whose path is short, as those of sockets are.
  explicit NbdServer(const TestDirectory& directory)
      : socket_(directory.File("nbd")) {}
  ~NbdServer() { Kill(); }
  NbdServer(const NbdServer&) = delete;
  NbdServer& operator=(const NbdServer&) = delete;

  // nbdkit, with filters, plugin and their settings.
  void StartNbdkit(const std::vector<std::string>& arguments) {
    std::vector<std::string> command = {"nbdkit", "--foreground",
                                        "--exit-with-parent", "--unix",
                                        socket_};
    command.insert(command.end(), arguments.begin(), arguments.end());
    Start(std::move(command));
  }
  // qemu-nbd, which serves on when the last client leaves.
  void StartQemu(const std::vector<std::string>& arguments) {
    std::vector<std::string> command = {"qemu-nbd", "--persistent",
                                        "--shared=8", "--socket=" + socket_};
    command.insert(command.end(), arguments.begin(), arguments.end());
    Start(std::move(command));
  }
  // nbdkit on a port of this machine; listens a little later.
  void StartTcp(int port, const std::vector<std::string>& arguments) {
    command_ = {"nbdkit", "--foreground", "--exit-with-parent", "--ipaddr",
                "127.0.0.1", "--port", std::to_string(port)};
    command_.insert(command_.end(), arguments.begin(), arguments.end());
    Spawn();
  }
  // What was started before.
  void Restart() { Start(command_); }

  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    EXPECT_EQ(waitpid(pid_, nullptr, 0), pid_);
    pid_ = -1;
  }
  void Freeze() {
    kill(pid_, SIGSTOP);
    EXPECT_EQ(waitpid(pid_, nullptr, WUNTRACED), pid_);
  }
  void Thaw() { kill(pid_, SIGCONT); }

  const std::string& socket_path() const { return socket_; }
  std::string uri(const std::string& export_name = "") const {
    return "nbd+unix:///" + export_name + "?socket=" + socket_;
  }

 private:
  void Start(std::vector<std::string> command) {
    command_ = std::move(command);
    unlink(socket_.c_str());  // of one that was killed
    ASSERT_NO_FATAL_FAILURE(Spawn());
    // One that is missing or refuses its arguments ends.
    while (!ConnectTo(socket_).is_open()) {
      int status;
      const bool ended = waitpid(pid_, &status, WNOHANG) != 0;
      if (ended) pid_ = -1;
      ASSERT_FALSE(ended) << command_[0] << " does not run";
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  void Spawn() {
    std::vector<char*> arguments;
    for (std::string& word : command_) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      execvp(arguments[0], arguments.data());
      _exit(127);
    }
    ASSERT_GT(pid_, 0);
  }

  const std::string socket_;
  std::vector<std::string> command_;
  pid_t pid_ = -1;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_IOBACKEND_NBD_SERVER_H_
