// The daemon's end of what it has to do with its supervisor.

#ifndef PCACHEFS_TOOLS_SUPERVISOR_LINK_H_
#define PCACHEFS_TOOLS_SUPERVISOR_LINK_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "fuse/failover_state.h"
#include "fuse/server_facts.h"
#include "tools/supervisor_messages.h"

namespace pcachefs {

// What a supervisor passes to a daemon: inherited descriptors by number, in one
// variable of the environment.
struct SupervisorPassage {
  static constexpr char kVariable[] = "PCACHEFS_SUPERVISED";

  int link = -1;
  int state = -1;
  bool is_standby = false;  // wait for kStart before touching the cache
  bool has_descriptor_store = false;
  int64_t watchdog_us = 0;    // 0: none, or nobody listens
  bool has_manager = false;   // somebody wants kNotify
  std::vector<int> channels;  // of the mount to take over

  std::string ToText() const;
  static absl::StatusOr<SupervisorPassage> Parse(absl::string_view text);
};

// Thread-safe but for Listen.
class SupervisorLink {
 public:
  // Null: nobody supervises. Takes the variable out of the environment, so that
  // nothing we start inherits it. Before any thread.
  static absl::StatusOr<std::unique_ptr<SupervisorLink>> FromEnvironment();
  ~SupervisorLink();
  SupervisorLink(const SupervisorLink&) = delete;
  SupervisorLink& operator=(const SupervisorLink&) = delete;

  FailoverState& state() const { return *state_; }
  const SupervisorPassage& passage() const { return passage_; }
  bool is_successor() const { return !passage_.channels.empty(); }

  void Say(SupervisorWord word, uint64_t number = 0,
           absl::string_view text = "") const;
  absl::Status Hold(std::span<const int> descriptors) const;
  // Of a standby: waits until the cache may be opened. Cancelled: never mind.
  absl::Status WaitForStart() const;

  // Calls `hand_over` when the supervisor wants it, on a thread.
  void Listen(absl::AnyInvocable<void()> hand_over);
  // From now on a death of the supervisor does not end this process.
  void BecomeReady() { is_ready_ = true; }

  absl::StatusOr<uint64_t> PrepareUpgrade(const std::string& binary);
  void BeginUpgrade(uint64_t number);
  absl::StatusOr<bool> IsUpgradeDone(uint64_t number) const;
  FailoverFacts Facts() const;

 private:
  SupervisorLink(SupervisorPassage passage,
                 std::unique_ptr<FailoverState> state)
      : passage_(std::move(passage)), state_(std::move(state)) {}

  void Run();

  const SupervisorPassage passage_;
  const std::unique_ptr<FailoverState> state_;
  absl::AnyInvocable<void()> hand_over_;
  absl::Mutex mutex_;
  std::string prepared_binary_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> is_ready_ = false;
  std::atomic<bool> is_orphan_ = false;
  std::thread thread_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SUPERVISOR_LINK_H_
