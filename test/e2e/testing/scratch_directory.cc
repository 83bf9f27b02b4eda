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
#include <set>
#include <string>
#include <system_error>

#include "absl/time/time.h"
#include "test/e2e/testing/clear_directory.h"
#include "test/e2e/testing/process.h"

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

const char* ParentOn(Medium medium) {
  return medium == Medium::kMemory ? "/dev/shm" : "/var/tmp";
}

void ClearOrphans(const std::string& parent,
                  void (*clear)(const std::string&)) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(parent, error)) {
    const std::string name = entry.path().filename();
    if (name.rfind(kScratchPrefix, 0) != 0) continue;
    const pid_t pid = atoi(name.c_str() + strlen(kScratchPrefix));
    if (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH) clear(entry.path());
  }
}

// Nobody new comes into it: what it runs was started by the test.
void ClearCgroup(const std::string& path) {
  WaitUntil(absl::Seconds(30), [&] {
    std::ifstream members(path + "/cgroup.procs");
    pid_t pid;
    while (members >> pid) kill(pid, SIGKILL);
    return rmdir(path.c_str()) == 0 || errno == ENOENT;
  });
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
  std::set<std::string> cgroups;
  char verb[16], path[512], value[64];
  while (fscanf(orders, "%15s %511s %63s", verb, path, value) == 3) {
    switch (verb[0]) {
      case 'd':
        directories[path] = value;
        break;
      case 's':
        settings[path] = value;
        break;
      case 'c':
        cgroups.insert(path);
        break;
      default:
        directories.erase(path);
        settings.erase(path);
        cgroups.erase(path);
    }
  }
  for (const auto& [path, value] : settings) SetContent(path, value);
  for (const std::string& path : cgroups) ClearCgroup(path);
  for (const auto& [path, value] : directories) ClearDirectory(path);
  _exit(0);
}

}  // namespace

ScratchDirectory::ScratchDirectory(Medium medium)
    : path_(std::string(ParentOn(medium)) + "/" + kScratchPrefix +
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

std::string CgroupRoot() {
  const std::string version_1 = "/sys/fs/cgroup/memory";
  return access((version_1 + "/cgroup.procs").c_str(), F_OK) == 0
             ? version_1
             : "/sys/fs/cgroup";
}

void LetJanitorRemoveCgroup(const std::string& path) {
  TellJanitor("cgroup", path);
}

void RemoveCgroup(const std::string& path) {
  ClearCgroup(path);
  TellJanitor("forget", path);
}

void StartJanitor() {
  for (const Medium medium : {Medium::kDisk, Medium::kMemory}) {
    ClearOrphans(ParentOn(medium), ClearDirectory);
  }
  ClearOrphans(CgroupRoot(), ClearCgroup);
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
