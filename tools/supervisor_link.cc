#include "tools/supervisor_link.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

// The file that this process runs, also if another one has taken its name.
std::string OwnPath() {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  return std::string(absl::StripSuffix(
      absl::string_view(path, std::max<ssize_t>(length, 0)), " (deleted)"));
}

}  // namespace

std::string SupervisorPassage::ToText() const {
  return absl::StrCat(link, ":", state, ":", is_standby, ":",
                      has_descriptor_store, ":", has_manager, ":", watchdog_us,
                      ":", absl::StrJoin(channels, ","));
}

absl::StatusOr<SupervisorPassage> SupervisorPassage::Parse(
    absl::string_view text) {
  SupervisorPassage passage;
  const std::vector<std::string> words = absl::StrSplit(text, ':');
  bool ok = words.size() == 7 && absl::SimpleAtoi(words[0], &passage.link) &&
            absl::SimpleAtoi(words[1], &passage.state) &&
            absl::SimpleAtob(words[2], &passage.is_standby) &&
            absl::SimpleAtob(words[3], &passage.has_descriptor_store) &&
            absl::SimpleAtob(words[4], &passage.has_manager) &&
            absl::SimpleAtoi(words[5], &passage.watchdog_us);
  if (ok && !words[6].empty()) {
    for (const absl::string_view word : absl::StrSplit(words[6], ',')) {
      passage.channels.push_back(-1);
      ok = ok && absl::SimpleAtoi(word, &passage.channels.back());
    }
  }
  if (ok) return passage;
  return absl::InvalidArgumentError(absl::StrCat(
      kVariable, ": got '", text, "'; it is for the supervisor's use only"));
}

absl::StatusOr<std::unique_ptr<SupervisorLink>>
SupervisorLink::FromEnvironment() {
  const char* const value = getenv(SupervisorPassage::kVariable);
  if (value == nullptr) return nullptr;
  const std::string text = value;
  unsetenv(SupervisorPassage::kVariable);
  ASSIGN_OR_RETURN(SupervisorPassage passage, SupervisorPassage::Parse(text));
  fcntl(passage.link, F_SETFD, FD_CLOEXEC);
  for (const int fd : passage.channels) fcntl(fd, F_SETFD, FD_CLOEXEC);
  absl::StatusOr<std::unique_ptr<FailoverState>> state =
      FailoverState::Open(passage.state);
  if (!state.ok()) {
    SendSupervisorMessage(passage.link, SupervisorWord::kFailed, 0,
                          state.status().message());
    return state.status();
  }
  return absl::WrapUnique(
      new SupervisorLink(std::move(passage), *std::move(state)));
}

SupervisorLink::~SupervisorLink() {
  if (!thread_.joinable()) return;
  shutdown(passage_.link, SHUT_RD);
  thread_.join();
}

void SupervisorLink::Say(SupervisorWord word, uint64_t number,
                         absl::string_view text) const {
  SendSupervisorMessage(passage_.link, word, number, text);
}

absl::Status SupervisorLink::Hold(std::span<const int> descriptors) const {
  if (SendSupervisorMessage(passage_.link, SupervisorWord::kHold, 0, "",
                            descriptors)) {
    return absl::OkStatus();
  }
  return absl::UnavailableError("the supervisor has died");
}

absl::Status SupervisorLink::WaitForStart() const {
  Say(SupervisorWord::kHello, kSupervisorProtocol);
  const auto message = ReceiveSupervisorMessage(passage_.link);
  if (message && message->word == SupervisorWord::kStart) {
    return absl::OkStatus();
  }
  return absl::CancelledError("was not needed");
}

void SupervisorLink::Listen(absl::AnyInvocable<void()> hand_over) {
  hand_over_ = std::move(hand_over);
  thread_ = std::thread([this] { Run(); });
}

void SupervisorLink::Run() {
  while (const auto message = ReceiveSupervisorMessage(passage_.link)) {
    if (message->word == SupervisorWord::kHandOver) hand_over_();
  }
  is_orphan_ = true;
  // Another supervisor may have begun to start another daemon.
  if (!is_ready_) _exit(1);
  state_->shared().counts.supervisor_pid = 0;
  LOG(ERROR) << "nobody holds the mount any more: it ends with this process";
}

void SupervisorLink::BeginUpgrade(uint64_t number) {
  absl::MutexLock lock(&mutex_);
  Say(SupervisorWord::kUpgrade, number, prepared_binary_);
}

absl::StatusOr<uint64_t> SupervisorLink::PrepareUpgrade(
    const std::string& wanted) {
  const std::string binary = wanted.empty() ? OwnPath() : wanted;
  struct stat attributes;
  if (!absl::StartsWith(binary, "/") || stat(binary.c_str(), &attributes) != 0 ||
      !S_ISREG(attributes.st_mode) || access(binary.c_str(), X_OK) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "upgrade: ", binary, ": want the absolute path of a program"));
  }
  SharedUpgrade& upgrade = state_->shared().upgrade;
  if (is_orphan_) {
    return absl::FailedPreconditionError(
        "upgrade: the supervisor has died; restart instead");
  }
  uint32_t phase = upgrade.phase;
  if (phase == SharedUpgrade::kRunning ||
      !upgrade.phase.compare_exchange_strong(phase, SharedUpgrade::kRunning)) {
    return absl::FailedPreconditionError("upgrade: one is under way");
  }
  absl::MutexLock lock(&mutex_);
  prepared_binary_ = binary;
  return ++upgrade.number;
}

absl::StatusOr<bool> SupervisorLink::IsUpgradeDone(uint64_t number) const {
  const SharedUpgrade& upgrade = state_->shared().upgrade;
  if (upgrade.number != number) {
    return absl::NotFoundError(absl::StrCat("no upgrade ", number));
  }
  switch (upgrade.phase) {
    case SharedUpgrade::kDone:
      return true;
    case SharedUpgrade::kFailed:
      return absl::FailedPreconditionError(absl::StrCat(
          "upgrade: ",
          absl::string_view(upgrade.message,
                            strnlen(upgrade.message, sizeof(upgrade.message))),
          "; the old program goes on serving"));
    default:
      return false;
  }
}

FailoverFacts SupervisorLink::Facts() const {
  const SharedFailoverState& shared = state_->shared();
  FailoverFacts facts;
  facts.is_enabled = true;
  facts.is_planned_only = shared.rings.are_used != 0;
  facts.supervisor_pid = shared.counts.supervisor_pid;
  facts.has_descriptor_store = passage_.has_descriptor_store;
  facts.restarts = shared.counts.restarts;
  facts.upgrades = shared.counts.upgrades;
  facts.last_pause_seconds = 1e-9 * shared.counts.last_pause_ns;
  facts.longest_pause_seconds = 1e-9 * shared.counts.longest_pause_ns;
  facts.poisoned_count = shared.crashes.poisoned_count;
  const size_t shown = std::min<size_t>(facts.poisoned_count,
                                        SharedCrashes::kPoisoned);
  for (size_t i = 0; i < shown; ++i) {
    const RequestRecord& request = shared.crashes.poisoned[i];
    facts.poisoned.push_back({.opcode = request.opcode,
                              .inode = request.node,
                              .offset = request.offset,
                              .length = request.length});
  }
  return facts;
}

}  // namespace pcachefs
