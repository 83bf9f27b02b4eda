// A virtual machine with Debian and systemd, of what tools/setup --guest has
// made, and with a shell in it.
//
//   auto guest = Guest::Boot({.root = root, .directory = scratch.path()});
//   EXPECT_THAT((*guest)->Run("systemctl is-active pcachefs@vm"), Succeeds());
//   EXPECT_THAT((*guest)->PowerOff(), IsOk());
//
// Emulated, not KVM: the same on every machine, and on those without. A boot
// takes half a minute.

#ifndef PCACHEFS_TEST_E2E_TESTING_GUEST_H_
#define PCACHEFS_TEST_E2E_TESTING_GUEST_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "test/e2e/testing/process.h"

namespace pcachefs {

// QEMU's -cpu. -cx16: QEMU 7.2 emulates cmpxchg16b wrongly, and Linux 6.12 dies
// of it.
inline constexpr char kGuestProcessor[] = "max,-cx16,-la57";

// What tools/setup --guest has made; an error that says how to get it.
absl::StatusOr<std::string> GuestDirectory();

// Makes the guest's root filesystem in the file `image`: its Debian, with the
// package `deb` installed, the shell that Run() talks to, and whatever
// `customize` (a script, with the root directory as $1) does.
absl::Status MakeGuestRoot(const std::string& deb, const std::string& customize,
                           const std::string& scratch,
                           const std::string& image);

struct GuestDisk {
  std::string file;
  std::string serial;   // /dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_SERIAL
  std::string options;  // more of QEMU's -drive, each behind a comma
};

struct GuestOptions {
  std::string root;       // image of the root filesystem
  std::string directory;  // for console and sockets
  std::vector<GuestDisk> disks;
};

// Not thread-safe.
class Guest {
 public:
  // Returns once the shell answers, which is before all services have started.
  static absl::StatusOr<std::unique_ptr<Guest>> Boot(
      const GuestOptions& options);
  // Cuts the power.
  ~Guest();
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  // Runs a script in bash. An exit code of -1 is of a machine that is gone or
  // does not answer.
  Outcome Run(const std::string& script,
              absl::Duration timeout = absl::Minutes(5));

  // `systemctl poweroff`, and waits until the machine is off.
  absl::Status PowerOff();
  void CutPower();

  // All that it has shown since it was switched on: messages of the kernel and
  // of systemd.
  std::string Console() const;

 private:
  Guest(std::unique_ptr<Process> machine, std::string console, int shell);

  // The next line from the shell; an error if none comes in time.
  absl::StatusOr<std::string> ReadLine(absl::Duration timeout);

  const std::unique_ptr<Process> machine_;
  const std::string console_;
  const int shell_;
  std::string received_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_E2E_TESTING_GUEST_H_
