#include "test/e2e/testing/failover_cache.h"

#include <dirent.h>
#include <signal.h>
#include <sys/mount.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <random>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "test/e2e/testing/file.h"

namespace pcachefs {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);

ServedCacheOptions WithFailover(ServedCacheOptions options) {
  const bool is_planned = std::ranges::count(
      options.flags, std::string("--planned_failover")) > 0;
  if (!is_planned) options.flags.push_back("--failover");
  return options;
}

std::vector<pid_t> ProcessesNaming(const std::string& path) {
  std::vector<pid_t> pids;
  DIR* const directory = opendir("/proc");
  while (const dirent* entry = readdir(directory)) {
    const pid_t pid = atoi(entry->d_name);
    if (pid <= 1 || pid == getpid()) continue;
    const std::string words =
        ContentOf(absl::StrCat("/proc/", pid, "/cmdline"));
    if (words.find("--cache=") != std::string::npos &&
        words.find(path) != std::string::npos) {
      pids.push_back(pid);
    }
  }
  closedir(directory);
  return pids;
}

std::string Described(const Outcome& outcome) {
  std::ostringstream text;
  text << outcome;
  return text.str();
}

}  // namespace

std::vector<pid_t> ChildrenOf(pid_t pid) {
  std::vector<pid_t> children;
  for (const auto word :
       absl::StrSplit(ContentOf(absl::StrCat("/proc/", pid, "/task/", pid,
                                             "/children")),
                      ' ', absl::SkipWhitespace())) {
    children.push_back(0);
    if (!absl::SimpleAtoi(word, &children.back())) children.pop_back();
  }
  return children;
}

FailoverCache::FailoverCache(ServedCacheOptions options)
    : served_(WithFailover(std::move(options))) {}

FailoverCache::~FailoverCache() {
  // All at once, or those who are left start others.
  for (std::vector<pid_t> pids;
       !(pids = ProcessesNaming(served_.mount())).empty();) {
    for (const pid_t pid : pids) kill(pid, SIGKILL);
    // Zombies name nothing.
    absl::SleepFor(absl::Milliseconds(5));
  }
  while (IsMounted(served_.mount())) {
    umount2(served_.mount().c_str(), MNT_DETACH);
  }
}

absl::Status FailoverCache::Start() {
  if (auto started = served_.Start(); !started.ok()) return started;
  // Under a service manager there is none.
  if (getenv("NOTIFY_SOCKET") != nullptr ||
      WaitUntil(kPatience,
                [&] { return ChildrenOf(supervisor_pid()).size() == 2; })) {
    return absl::OkStatus();
  }
  return absl::DeadlineExceededError("the supervisor has no spare");
}

pid_t FailoverCache::DaemonPid() {
  const auto status = served_.Status();
  return status.ok() ? (*status)["server"].value("pid", 0) : 0;
}

nlohmann::json FailoverCache::Failover() {
  const auto status = served_.Status();
  return status.ok() ? (*status)["failover"] : nlohmann::json::object();
}

absl::Status FailoverCache::KillDaemon() {
  const pid_t pid = DaemonPid();
  if (pid <= 0) return absl::UnavailableError("nobody serves");
  kill(pid, SIGKILL);
  return absl::OkStatus();
}

absl::Status FailoverCache::AwaitRestarts(uint64_t count) {
  if (WaitUntil(kPatience,
                [&] { return Failover().value("restarts", 0u) >= count; })) {
    return absl::OkStatus();
  }
  return absl::DeadlineExceededError(
      absl::StrCat("got ", Failover().value("restarts", 0u), " restarts, want ",
                   count));
}

absl::Status FailoverCache::KillUnder(uint64_t count,
                                      const std::vector<std::string>& load) {
  std::mt19937 random(7);
  std::vector<double> pauses;
  const uint64_t before = Failover().value("restarts", 0u);
  std::unique_ptr<Process> process;
  double longest_io = 0;
  for (uint64_t kills = 0; kills < count;) {
    auto started = Process::Start(load);
    if (!started.ok()) return started.status();
    process = *std::move(started);
    while (kills < count && !process->WaitFor(absl::Milliseconds(
                                50 + random() % 400))) {
      if (auto killed = KillDaemon(); !killed.ok()) return killed;
      ++kills;
      if (auto waited = AwaitRestarts(before + kills); !waited.ok()) {
        return waited;
      }
      pauses.push_back(Failover().value("last_pause_seconds", 0.0));
    }
    if (!process->WaitFor(absl::Minutes(5)) || !process->outcome().ok()) {
      return absl::DataLossError(absl::StrCat("after ", kills, " kills: ",
                                              Described(process->outcome())));
    }
    // Of fio's JSON, if it was asked for that.
    const std::string out = process->outcome().out;
    const auto report = nlohmann::json::parse(
        out.substr(std::min(out.find('{'), out.size())), nullptr, false);
    if (!report.is_object()) continue;
    for (const auto& job : report["jobs"]) {
      for (const char* direction : {"read", "write"}) {
        longest_io = std::max(longest_io,
                              job[direction]["clat_ns"].value("max", 0.0));
      }
    }
  }
  std::sort(pauses.begin(), pauses.end());
  if (!pauses.empty()) {
    std::cout << "survived " << pauses.size() << " of " << count
              << " kills; pauses in ms: median "
              << 1e3 * pauses[pauses.size() / 2] << ", longest "
              << 1e3 * pauses.back() << "; longest I/O "
              << 1e-6 * longest_io << std::endl;
  }
  return absl::OkStatus();
}

}  // namespace pcachefs
