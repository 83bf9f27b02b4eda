// What a supervisor and its daemons say to each other: packets on a pair of
// sockets that nobody else has, one message each.

#ifndef PCACHEFS_TOOLS_SUPERVISOR_MESSAGES_H_
#define PCACHEFS_TOOLS_SUPERVISOR_MESSAGES_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace pcachefs {

// Numbers are part of the protocol: programs of two versions meet.
enum class SupervisorWord : uint32_t {
  // Of the daemon.
  kHello = 1,     // a standby is there; number: kSupervisorProtocol
  kHold = 2,      // descriptors: of the mount just made
  kReady = 3,     // the mount answers
  kWarn = 4,      // text: for the user
  kFailed = 5,    // text: why the start failed; the end follows
  kNotify = 6,    // text: for the service manager
  kUpgrade = 7,   // number: of the upgrade; text: the program's path
  kEnded = 8,     // the mount is gone; number: the exit code
  // Of the supervisor.
  kStart = 64,     // to a standby: the cache is yours
  kHandOver = 65,  // to the one who serves: close the cache and end
};

inline constexpr uint64_t kSupervisorProtocol = 1;

struct SupervisorMessage {
  SupervisorWord word = SupervisorWord::kHello;
  uint64_t number = 0;
  std::string text;              // cut at 4 KiB
  std::vector<int> descriptors;  // received ones are the receiver's, CLOEXEC
};

// False: nobody is there any more.
bool SendSupervisorMessage(int socket, SupervisorWord word, uint64_t number = 0,
                           absl::string_view text = "",
                           std::span<const int> descriptors = {});
// Waits for one. nullopt: nobody is there any more.
std::optional<SupervisorMessage> ReceiveSupervisorMessage(int socket);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_SUPERVISOR_MESSAGES_H_
