#include "test/e2e/testing/guest.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/process.h"

namespace pcachefs {
namespace {

// $1 root directory, $2 package. The shell is a service on the second serial
// line; journals are kept, to be read after the next boot.
constexpr char kInstall[] = R"sh(set -e
mkdir -p "$1"
tar -x -f "$PCACHEFS_GUEST/root.tar" -C "$1"
cp "$2" "$1/package.deb"
chroot "$1" dpkg --install /package.deb
rm "$1/package.deb"
passwd --root "$1" --delete root
echo guest > "$1/etc/hostname"
echo 'PARTUUID=12345678-01 / ext4 defaults 0 1' > "$1/etc/fstab"
mkdir -p "$1/var/log/journal"
cat > "$1/usr/local/sbin/guest-shell" <<'END'
#!/bin/bash
exec </dev/ttyS1 >/dev/ttyS1
stty raw -echo </dev/ttyS1
echo READY
while read -r line; do
  base64 --decode <<<"$line" >/run/script
  bash /run/script >/run/out 2>/run/err </dev/null
  echo "DONE $? $(base64 --wrap=0 /run/out) $(base64 --wrap=0 /run/err)"
done
END
chmod 755 "$1/usr/local/sbin/guest-shell"
cat > "$1/etc/systemd/system/guest-shell.service" <<'END'
[Unit]
DefaultDependencies=no
After=systemd-tmpfiles-setup.service
[Service]
ExecStart=/usr/local/sbin/guest-shell
Environment=HOME=/root
[Install]
WantedBy=sysinit.target
END
systemctl --root="$1" enable guest-shell
systemctl --root="$1" mask e2scrub_reap.service apt-daily.timer \
  apt-daily-upgrade.timer getty@tty1.service
)sh";

// $1 root directory, $2 image. A partition, for the kernel knows those by name,
// and disks only by the order in which it found them.
constexpr char kMakeImage[] = R"sh(set -e
truncate --size=1G "$2"
printf '%s\n' 'label: dos' 'label-id: 0x12345678' 'start=2048, type=83' |
  /sbin/sfdisk --quiet "$2"
/sbin/mkfs.ext4 -q -F -d "$1" -E offset=1048576 "$2" 1047552k
)sh";

absl::Status StatusOf(const Outcome& outcome) {
  if (outcome.ok()) return absl::OkStatus();
  std::ostringstream text;
  text << outcome;
  return absl::InternalError(text.str());
}

// A socket that listens at `path`.
absl::StatusOr<int> Listen(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": too long"));
  }
  memcpy(address.sun_path, path.data(), path.size());
  unlink(path.c_str());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
          0 ||
      listen(fd, 1) != 0) {
    const int error = errno;
    close(fd);
    return absl::ErrnoToStatus(error, path);
  }
  return fd;
}

std::vector<std::string> Command(const GuestOptions& options,
                                 const std::string& kernel,
                                 const std::string& console,
                                 const std::string& shell) {
  std::vector<std::string> command = {
      "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu",
      kGuestProcessor, "-smp", "2", "-m", "768", "-display", "none",
      "-nodefaults", "-no-reboot",
      "-serial", absl::StrCat("file:", console),
      "-serial", absl::StrCat("unix:", shell),
      "-kernel", kernel, "-append",
      "root=PARTUUID=12345678-01 rw console=ttyS0 panic=-1 loglevel=4 "
      "systemd.show_status=1"};
  std::vector<GuestDisk> disks = {
      {.file = options.root, .serial = "root", .options = ",cache=unsafe"}};
  disks.insert(disks.end(), options.disks.begin(), options.disks.end());
  for (const GuestDisk& disk : disks) {
    command.insert(command.end(),
                   {"-drive",
                    absl::StrCat("if=none,id=", disk.serial, ",file=",
                                 disk.file, disk.options),
                    "-device",
                    absl::StrCat("nvme,drive=", disk.serial, ",serial=",
                                 disk.serial)});
  }
  return command;
}

}  // namespace

absl::StatusOr<std::string> GuestDirectory() {
  const char* const directory = getenv("PCACHEFS_GUEST");
  if (directory == nullptr ||
      access(absl::StrCat(directory, "/root.tar").c_str(), R_OK) != 0) {
    return absl::NotFoundError(
        "no guest to boot: run tools/setup --guest, and name what it makes: "
        "PCACHEFS_GUEST=.../.deps/guest (.deps/bazelrc does so)");
  }
  return directory;
}

absl::Status MakeGuestRoot(const std::string& deb, const std::string& customize,
                           const std::string& scratch,
                           const std::string& image) {
  const std::string root = scratch + "/root";
  absl::Status status =
      StatusOf(RunCommand({"bash", "-c", kInstall, "install", root, deb},
                          absl::Minutes(10)));
  if (!status.ok()) return status;
  status = StatusOf(RunCommand({"bash", "-ec", customize, "customize", root}));
  if (!status.ok()) return status;
  status = StatusOf(RunCommand({"bash", "-c", kMakeImage, "image", root, image},
                               absl::Minutes(10)));
  if (!status.ok()) return status;
  return StatusOf(RunCommand({"rm", "-rf", "--one-file-system", root}));
}

Guest::Guest(std::unique_ptr<Process> machine, std::string console, int shell)
    : machine_(std::move(machine)),
      console_(std::move(console)),
      shell_(shell) {}

absl::StatusOr<std::unique_ptr<Guest>> Guest::Boot(
    const GuestOptions& options) {
  const auto directory = GuestDirectory();
  if (!directory.ok()) return directory.status();
  const std::string console = options.directory + "/console";
  const std::string socket = options.directory + "/shell";
  unlink(console.c_str());
  const auto listener = Listen(socket);
  if (!listener.ok()) return listener.status();
  auto machine = Process::Start(
      Command(options, *directory + "/vmlinuz", console, socket));
  if (!machine.ok()) {
    close(*listener);
    return machine.status();
  }
  // It connects at once, or ends.
  int shell = -1;
  for (int i = 0; i < 300 && shell < 0; ++i) {
    pollfd event = {.fd = *listener, .events = POLLIN, .revents = 0};
    if (poll(&event, 1, 100) == 1) {
      shell = accept4(*listener, nullptr, nullptr, SOCK_CLOEXEC);
    } else if ((*machine)->WaitFor(absl::ZeroDuration())) {
      break;
    }
  }
  close(*listener);
  if (shell < 0) return StatusOf((*machine)->outcome());

  std::unique_ptr<Guest> guest(
      new Guest(*std::move(machine), console, shell));
  const absl::Time deadline = absl::Now() + absl::Minutes(5);
  for (;;) {
    const auto line = guest->ReadLine(deadline - absl::Now());
    if (!line.ok()) {
      return absl::Status(line.status().code(),
                          absl::StrCat(line.status().message(), "\n",
                                       guest->Console()));
    }
    if (*line == "READY") return guest;
  }
}

Guest::~Guest() {
  CutPower();
  close(shell_);
}

absl::StatusOr<std::string> Guest::ReadLine(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    const size_t end = received_.find('\n');
    if (end != std::string::npos) {
      std::string line = received_.substr(0, end);
      received_.erase(0, end + 1);
      if (!line.empty() && line.back() == '\r') line.pop_back();
      return line;
    }
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError("the guest does not answer");
    }
    pollfd event = {.fd = shell_, .events = POLLIN, .revents = 0};
    if (poll(&event, 1, 100) <= 0) continue;
    char buffer[4096];
    const ssize_t count = read(shell_, buffer, sizeof(buffer));
    if (count <= 0) return absl::UnavailableError("the guest is gone");
    received_.append(buffer, count);
  }
}

Outcome Guest::Run(const std::string& script, absl::Duration timeout) {
  Outcome outcome;
  outcome.command = script;
  const std::string line = absl::Base64Escape(script) + "\n";
  if (send(shell_, line.data(), line.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(line.size())) {
    outcome.err = "the guest is gone";
    return outcome;
  }
  const auto answer = ReadLine(timeout);
  if (!answer.ok()) {
    outcome.err = std::string(answer.status().message());
    return outcome;
  }
  const std::vector<std::string> words = absl::StrSplit(*answer, ' ');
  if (words.size() != 4 || words[0] != "DONE" ||
      !absl::SimpleAtoi(words[1], &outcome.exit_code) ||
      !absl::Base64Unescape(words[2], &outcome.out) ||
      !absl::Base64Unescape(words[3], &outcome.err)) {
    outcome.exit_code = -1;
    outcome.err = "the guest's shell answered: " + *answer;
  }
  return outcome;
}

absl::Status Guest::PowerOff() {
  const Outcome outcome = Run("systemctl --no-block poweroff");
  if (!outcome.ok()) return StatusOf(outcome);
  if (!machine_->WaitFor(absl::Minutes(5))) {
    return absl::DeadlineExceededError(
        absl::StrCat("the guest does not go down\n", Console()));
  }
  return StatusOf(machine_->outcome());
}

void Guest::CutPower() {
  machine_->Signal(SIGKILL);
  machine_->WaitFor(absl::Minutes(1));
}

std::string Guest::Console() const { return ContentOf(console_); }

}  // namespace pcachefs
