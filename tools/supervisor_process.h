// The supervisor's inside: its state, and what it does about each event. For
// supervisor.cc, which keeps daemons going and the spare, and
// supervisor_upgrade.cc, which hands over to another program.

#ifndef PCACHEFS_TOOLS_SUPERVISOR_PROCESS_H_
#define PCACHEFS_TOOLS_SUPERVISOR_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fuse/failover_state.h"
#include "tools/daemon_process.h"
#include "tools/service_manager.h"
#include "tools/start_report.h"
#include "tools/supervisor.h"

namespace pcachefs {

// Of one thread. Options and report outlive it.
class Supervisor {
 public:
  Supervisor(const SupervisorOptions& options, StartReport& report)
      : options_(options),
        report_(report),
        manager_(ServiceManager::FromEnvironment()) {}

  absl::StatusOr<int> Run();

 private:
  enum class UpgradeStep { kNone, kStarting, kReleasing, kTakingOver };

  absl::Status TakeStored();
  absl::StatusOr<DaemonProcess> StartDaemon(const Program& program,
                                            bool is_standby);
  void StartSuccessor();
  void Wait();
  void HandleSignal();
  void HandleMessage(DaemonProcess& process);
  void HandleDeath();
  void HandleReady(DaemonProcess& process);
  void End(int exit_code);
  void Unmount();
  // Over io_uring: a death that was not planned.
  void EndWithDaemon(const std::string& how);

  void BeginUpgrade(const std::string& path);
  void HandleHello(DaemonProcess& process, uint64_t protocol);
  void HandleStandbyDeath();
  void LetStandbyStart();
  void FinishUpgrade();
  void FailUpgrade(const std::string& why);
  void HandleDeadline();

  void RefreshSpare();
  void DismissSpare();
  void BeSpare(int primary);

  const SupervisorOptions& options_;
  StartReport& report_;
  ServiceManager manager_;
  int signals_ = -1;
  std::unique_ptr<FailoverState> state_;
  std::vector<int> channels_;
  std::optional<Program> program_;
  DaemonProcess daemon_;
  bool has_served_ = false;  // there is a mount to keep
  bool is_stopping_ = false;
  std::optional<int> exit_code_;
  int failures_ = 0;  // in a row
  absl::Time next_start_ = absl::InfiniteFuture();
  absl::Time ready_time_;
  pid_t spare_ = -1;

  UpgradeStep step_ = UpgradeStep::kNone;
  std::optional<Program> next_program_;
  DaemonProcess standby_;
  absl::Time deadline_ = absl::InfiniteFuture();
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SUPERVISOR_PROCESS_H_
