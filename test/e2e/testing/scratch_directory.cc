#include "test/e2e/testing/scratch_directory.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <system_error>

#include "test/e2e/testing/clear_directory.h"

namespace pcachefs {
namespace {

int janitor_fd = -1;

// "verb path value\n"; no path of ours has a space in it.
void TellJanitor(const std::string& verb, const std::string& path,
                 const std::string& value = "-") {
  const std::string line = verb + " " + path + " " + value + "\n";
  // Shorter than PIPE_BUF, so never written in parts.
  if (write(janitor_fd, line.data(), line.size()) < 0) {
    perror("janitor");
    abort();
  }
}

bool SetContent(const std::string& path, const std::string& value) {
  std::ofstream file(path);
  file << value << std::flush;
  return file.good();
}

constexpr char kPrefix[] = "pcachefs-e2e.";

const char* ParentOn(Medium medium) {
  return medium == Medium::kMemory ? "/dev/shm" : "/var/tmp";
}

void ClearOrphans(Medium medium) {
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(ParentOn(medium), error)) {
    const std::string name = entry.path().filename();
    if (name.rfind(kPrefix, 0) != 0) continue;
    const pid_t pid = atoi(name.c_str() + strlen(kPrefix));
    if (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH) {
      ClearDirectory(entry.path());
    }
  }
}

[[noreturn]] void RunJanitor(int fd) {
  // Outlives what kills the test, its process group included, and does not
  // keep the test's output open.
  setsid();
  for (const int signal : {SIGHUP, SIGINT, SIGTERM, SIGPIPE}) {
    ::signal(signal, SIG_IGN);
  }
  const int null = open("/dev/null", O_RDWR);
  for (int i = 0; i < 3; ++i) dup2(null, i);
  FILE* orders = fdopen(fd, "r");
  std::map<std::string, std::string> directories;
  std::map<std::string, std::string> settings;
  char verb[16], path[512], value[64];
  while (fscanf(orders, "%15s %511s %63s", verb, path, value) == 3) {
    switch (verb[0]) {
      case 'd':
        directories[path] = value;
        break;
      case 's':
        settings[path] = value;
        break;
      default:
        directories.erase(path);
        settings.erase(path);
    }
  }
  for (const auto& [path, value] : settings) SetContent(path, value);
  for (const auto& [path, value] : directories) ClearDirectory(path);
  _exit(0);
}

}  // namespace

ScratchDirectory::ScratchDirectory(Medium medium)
    : path_(std::string(ParentOn(medium)) + "/" + kPrefix +
            std::to_string(getpid()) + ".XXXXXX") {
  if (mkdtemp(path_.data()) == nullptr) {
    perror(path_.c_str());
    abort();
  }
  TellJanitor("directory", path_);
}

ScratchDirectory::~ScratchDirectory() {
  ClearDirectory(path_);
  TellJanitor("forget", path_);
}

ScopedSetting::ScopedSetting(const std::string& path, const std::string& value)
    : path_(path) {
  std::ifstream(path) >> before_;
  if (before_.empty()) return;
  TellJanitor("setting", path_, before_);
  is_set_ = SetContent(path_, value);
}

ScopedSetting::~ScopedSetting() {
  if (before_.empty()) return;
  SetContent(path_, before_);
  TellJanitor("forget", path_);
}

void StartJanitor() {
  for (const Medium medium : {Medium::kDisk, Medium::kMemory}) {
    ClearOrphans(medium);
  }
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) {
    perror("pipe2");
    abort();
  }
  const pid_t pid = fork();
  if (pid < 0) {
    perror("fork");
    abort();
  }
  if (pid == 0) {
    close(fds[1]);
    RunJanitor(fds[0]);
  }
  close(fds[0]);
  janitor_fd = fds[1];
}

}  // namespace pcachefs
