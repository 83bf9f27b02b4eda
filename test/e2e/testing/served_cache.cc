#include "test/e2e/testing/served_cache.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <fstream>
#include <iostream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/programs.h"

namespace pcachefs {
namespace {

// Replay, and a machine with other work, included.
constexpr absl::Duration kPatience = absl::Minutes(1);

std::string Described(const Outcome& outcome) {
  std::ostringstream text;
  text << outcome;
  return text.str();
}

}  // namespace

bool IsServed(const std::string& mount) {
  return !ContentOf(mount + "/.pcache/status.json").empty();
}

bool IsMounted(const std::string& directory) {
  std::ifstream table("/proc/self/mountinfo");
  std::string line;
  while (std::getline(table, line)) {
    if (line.find(" " + directory + " ") != std::string::npos) return true;
  }
  return false;
}

ServedCache::ServedCache(const ServedCacheOptions& options)
    : options_(options),
      cache_directory_(options.cache_medium),
      backing_(directory_.File("backing.img")),
      cache_(cache_directory_.File("cache")),
      mount_(directory_.File("mount")) {
  MakeFile(backing_, options_.backing_size);
  mkdir(mount_.c_str(), 0700);
}

ServedCache::~ServedCache() {
  if (daemon_ == nullptr) return;
  if (testing::Test::HasFailure()) {
    std::cerr << "the daemon: " << daemon_->outcome() << std::endl;
  }
  Kill();
}

std::vector<std::string> ServedCache::Command() const {
  const std::string& spec =
      options_.backing_spec.empty() ? backing_ : options_.backing_spec;
  std::vector<std::string> command = options_.prefix;
  command.insert(command.end(),
                 {PcachefsPath(), "--cache=" + cache(),
                  "--cache_size=" + options_.cache_size,
                  "--backing=disk=" + spec + options_.more_backing});
  command.insert(command.end(), options_.flags.begin(), options_.flags.end());
  command.push_back(mount_);
  return command;
}

absl::Status ServedCache::Start() {
  // What a killed daemon leaves; loop devices may still hold files in it.
  while (IsMounted(mount_)) umount2(mount_.c_str(), MNT_DETACH);
  std::vector<std::string> command = Command();
  command.insert(command.end() - 1, "--foreground");
  absl::StatusOr<std::unique_ptr<Process>> daemon = Process::Start(command);
  if (!daemon.ok()) return daemon.status();
  daemon_ = std::move(*daemon);
  // The mount answers a little before the daemon knows it: until then a stop is
  // an error, and the transport is not decided.
  const std::string ready =
      absl::StrCat("] serving ", cache(), " at ", mount_, " over ");
  bool ended = false;
  const bool decided = WaitUntil(kPatience, [&] {
    ended = daemon_->WaitFor(absl::ZeroDuration());
    return ended ||
           (IsServed(mount_) && Log().find(ready) != std::string::npos);
  });
  if (decided && !ended) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("not served: ", Described(daemon_->outcome())));
}

void ServedCache::Kill() {
  daemon_->Signal(SIGKILL);
  daemon_->WaitFor(kPatience);
}

absl::Status ServedCache::Stop() {
  const Outcome stop = Control("stop");
  if (!stop.ok()) return absl::UnknownError(Described(stop));
  if (WaitForExit() != 0) {
    return absl::UnknownError(
        absl::StrCat("after stop: ", Described(daemon_->outcome())));
  }
  return absl::OkStatus();
}

int ServedCache::WaitForExit() {
  return daemon_->WaitFor(kPatience) ? daemon_->outcome().exit_code : -1;
}

Outcome ServedCache::Control(const std::string& verb,
                             const std::vector<std::string>& arguments,
                             absl::Duration timeout) const {
  std::vector<std::string> command = {PcachectlPath(), verb, mount_};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return RunCommand(command, timeout);
}

absl::StatusOr<nlohmann::json> ServedCache::Status() const {
  const Outcome outcome = Control("status", {"--json"});
  nlohmann::json status = nlohmann::json::parse(outcome.out, nullptr, false);
  if (!outcome.ok() || !status.is_object()) {
    return absl::UnknownError(Described(outcome));
  }
  return status;
}

absl::StatusOr<nlohmann::json> ServedCache::ImageStatus() const {
  absl::StatusOr<nlohmann::json> status = Status();
  if (!status.ok()) return status;
  const auto images = status->find("images");
  if (images == status->end() || !images->is_array() || images->size() != 1) {
    return absl::UnknownError(absl::StrCat("no image in ", status->dump()));
  }
  return images->at(0);
}

std::string ServedCache::State() const {
  const absl::StatusOr<nlohmann::json> status = ImageStatus();
  return status.ok() ? status->value("state", "none")
                     : status.status().ToString();
}

}  // namespace pcachefs
