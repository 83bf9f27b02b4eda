#include "tools/privileges.h"

#include <glog/logging.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace pcachefs {
namespace {

constexpr int kMostCapabilities = 64;

constexpr uint64_t Bit(int capability) { return uint64_t{1} << capability; }

// The system call itself: libcap would be a library for two functions.
struct Capabilities {
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3,
                                     .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};

  bool Load() { return syscall(SYS_capget, &header, data) == 0; }
  bool Store() { return syscall(SYS_capset, &header, data) == 0; }
  uint64_t permitted() const {
    return data[0].permitted | uint64_t{data[1].permitted} << 32;
  }
  // Permitted and effective; none is inherited.
  void Set(uint64_t capabilities) {
    for (int i : {0, 1}) {
      const auto half = static_cast<uint32_t>(capabilities >> 32 * i);
      data[i] = {.effective = half, .permitted = half, .inheritable = 0};
    }
  }
};

// Not even root's programs get more.
void LowerBound() {
  for (int i = 0; i < kMostCapabilities; ++i) {
    if ((KeptCapabilities() & Bit(i)) != 0) continue;
    if (prctl(PR_CAPBSET_READ, i) != 1) continue;
    PLOG_IF(WARNING, prctl(PR_CAPBSET_DROP, i) != 0)
        << "cannot take capability " << i << " from what may be started";
  }
}

}  // namespace

uint64_t KeptCapabilities() {
  return Bit(CAP_SYS_ADMIN) | Bit(CAP_DAC_OVERRIDE) |
         Bit(CAP_DAC_READ_SEARCH) | Bit(CAP_NET_BIND_SERVICE);
}

void DropPrivileges() {
  Capabilities capabilities;
  if (!capabilities.Load()) {
    PLOG(WARNING) << "cannot read the daemon's capabilities";
    return;
  }
  const uint64_t permitted = capabilities.permitted();
  if ((permitted & Bit(CAP_SYS_ADMIN)) != 0) {
    PLOG_IF(WARNING, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        << "cannot forbid new privileges";
  }
  if ((permitted & Bit(CAP_SETPCAP)) != 0) LowerBound();
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  capabilities.Set(permitted & KeptCapabilities());
  PLOG_IF(WARNING, !capabilities.Store())
      << "cannot give the daemon's capabilities up";
}

}  // namespace pcachefs
