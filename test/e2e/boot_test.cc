// The package on a machine of its own, where systemd is the first process: the
// service and a filesystem on an image come up at boot and go down at shutdown
// in the right order; systemd stops, restarts, watches and kills the service
// while that filesystem is in use; power goes.
//
// Not among the others, as it takes an emulator, a Debian and minutes:
//
//   tools/setup --guest
//   bazel test --config=ci //test/e2e:boot_test --test_output=all
//
// It prints how long machine and service took to start and stop.

#include <stdlib.h>

#include <iostream>
#include <memory>
#include <regex>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/guest.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/scratch_directory.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// The line of `document` that contains `text`.
std::string LineWith(const std::string& document, const std::string& text) {
  const std::string content = ContentOf(document);
  const size_t place = content.find(text);
  if (place == std::string::npos) return "";
  const size_t begin = content.rfind('\n', place) + 1;
  return content.substr(begin, content.find('\n', place) - begin);
}

// The block of docs/recipes.md that is the unit `name`.
std::string UnitOfRecipe(const std::string& name) {
  const std::string content = ContentOf("docs/recipes.md");
  const std::string fence = "```ini unit=" + name + "\n";
  const size_t begin = content.find(fence);
  if (begin == std::string::npos) return "";
  const size_t end = content.find("```", begin + fence.size());
  return content.substr(begin + fence.size(), end - begin - fence.size());
}

// The lines of `text` that no machine says whose disks work and whose units
// start.
std::string Troubles(const std::string& text) {
  static const std::regex* const kTroubles = new std::regex(
      "I/O error|EXT4-fs error|EXT4-fs warning|JBD2: Error|Remounting|"
      "lost async page|hung_task|blocked for more|ordering cycle|FAILED");
  std::string troubles;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (std::regex_search(line.begin(), line.end(), *kTroubles)) {
      absl::StrAppend(&troubles, line, "\n");
    }
  }
  return troubles;
}

class BootTest : public testing::Test {
 protected:
  // The root filesystem of all: made once, each test has its own changes to it.
  static void SetUpTestSuite() {
    scratch_ = new ScratchDirectory;
    const Outcome package = RunCommand(
        {"bash", "-c",
         absl::StrCat("exec $(realpath tools/package) --output=",
                      scratch_->path(), " --binaries=$(dirname $(realpath ",
                      PcachefsPath(), "))")},
        absl::Minutes(5));
    ASSERT_THAT(package, Succeeds());
    const std::string deb(absl::StripTrailingAsciiWhitespace(package.out));
    ASSERT_THAT(MakeGuestRoot(deb, Customize(), scratch_->path(),
                              scratch_->File("base")),
                IsOk());
  }
  static void TearDownTestSuite() {
    delete scratch_;
    scratch_ = nullptr;
  }

  // The service, and what docs/operations.md has for /etc/fstab.
  static std::string Customize() {
    return R"(
mkdir -p "$1/mnt/pcache" "$1/data" "$1/etc/pcachefs"
cat > "$1/etc/pcachefs/vm.conf" <<'END'
cache = /dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_cache
mountpoint = /mnt/pcache
backing = vm1=/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_slow
END
chroot "$1" pcachectl check-config /etc/pcachefs/vm.conf
systemctl --root="$1" enable pcachefs@vm
cat >> "$1/etc/fstab" <<'END'
)" + LineWith("docs/operations.md", "x-systemd.requires=pcachefs@vm.service") +
           "\nEND\n";
  }

  void SetUp() override {
    ASSERT_THAT(RequirePrograms({"qemu-system-x86_64", "qemu-img"}), IsOk());
    ASSERT_THAT(RunCommand({"qemu-img", "create", "-q", "-f", "qcow2", "-F",
                            "raw", "-b", scratch_->File("base"),
                            directory_.File("root")}),
                Succeeds());
    MakeFile(directory_.File("cache"), 256 * kMiB);
    ASSERT_THAT(
        RunCommand({PcachectlPath(), "format", directory_.File("cache")}),
        Succeeds());
    MakeFile(directory_.File("slow"), 512 * kMiB);
    ASSERT_THAT(RunCommand({"/sbin/mkfs.ext4", "-q", "-F",
                            directory_.File("slow")}),
                Succeeds());
  }

  // Until all that starts at boot has started; none of it may have failed.
  void Boot() {
    const absl::Time begin = absl::Now();
    auto guest = Guest::Boot(
        {.root = directory_.File("root"),
         .directory = directory_.path(),
         .disks = {{directory_.File("cache"), "cache",
                    ",format=raw,discard=unmap"},
                   {directory_.File("slow"), "slow",
                    ",format=raw,discard=unmap"}}});
    ASSERT_THAT(guest, IsOk());
    guest_ = *std::move(guest);
    EXPECT_THAT(guest_->Run("systemctl is-system-running --wait"), Succeeds())
        << guest_->Run("systemctl --failed --no-legend; "
                       "journalctl -b --no-pager -u pcachefs@vm -u data.mount");
    std::cout << "boot: " << absl::Now() - begin << "; "
              << guest_->Run("systemd-analyze time | head -1").out;
  }

  void PowerOff() {
    const absl::Time begin = absl::Now();
    ASSERT_THAT(guest_->PowerOff(), IsOk());
    std::cout << "power off: " << absl::Now() - begin << std::endl;
    EXPECT_EQ(Troubles(guest_->Console()), "");
  }

  // A script in the guest that must succeed; its output.
  std::string Run(const std::string& script) {
    const Outcome outcome = guest_->Run("set -e\n" + script);
    EXPECT_THAT(outcome, Succeeds());
    return std::string(absl::StripTrailingAsciiWhitespace(outcome.out));
  }
  std::string Property(const std::string& name,
                       const std::string& unit = "pcachefs@vm") {
    return Run("systemctl show --value -p " + name + " " + unit);
  }
  int64_t Number(const std::string& name,
                 const std::string& unit = "pcachefs@vm") {
    return atoll(Property(name, unit).c_str());
  }

  // Dirty data that stays dirty, the last of it not even synced.
  void WriteFiles(const std::string& name) {
    Run(absl::StrReplaceAll(R"(
pcachectl set /mnt/pcache vm1 writeback_rate=4K
mkdir /data/NAME
cd /data/NAME
for i in 1 2 3 4; do dd if=/dev/urandom of=f$i bs=1M count=4 status=none; done
sha256sum f? > sums
)",
                            {{"NAME", name}}));
  }
  void CheckFiles(const std::string& name) {
    EXPECT_THAT(guest_->Run("cd /data/" + name + " && sha256sum -c --quiet sums"),
                Succeeds());
  }
  void ExpectNoTroubles() { EXPECT_EQ(Troubles(Run("dmesg")), ""); }

  // Up in order, down in order, and all there again after it; the filesystem is
  // mounted on `device` by then.
  void GoDownAndUpAgain() {
    ASSERT_NO_FATAL_FAILURE(Boot());
    EXPECT_EQ(Run("findmnt -n -o FSTYPE /data"), "ext4");
    EXPECT_LE(Number("ActiveEnterTimestampMonotonic"),
              Number("InactiveExitTimestampMonotonic", "data.mount"));
    WriteFiles("first");
    ASSERT_NO_FATAL_FAILURE(PowerOff());

    ASSERT_NO_FATAL_FAILURE(Boot());
    CheckFiles("first");
    // What was dirty still is: it came through in the cache.
    EXPECT_THAT(guest_->Run("pcachectl status /mnt/pcache --quiet"),
                ExitsWith(3));
    const std::string before = Run("journalctl -b -1 -o cat --no-pager");
    const size_t unmounted = before.find("Unmounted data.mount");
    const size_t stopping = before.find("Stopping pcachefs@vm.service");
    const size_t stopped = before.find("Stopped pcachefs@vm.service");
    EXPECT_NE(unmounted, std::string::npos) << before;
    EXPECT_LT(unmounted, stopping);
    EXPECT_LT(stopping, stopped);
    EXPECT_NE(stopped, std::string::npos);
    // Unmounted in time: no journal to replay.
    EXPECT_THAT(Run("dmesg"), Not(HasSubstr("recovery complete")));
    ExpectNoTroubles();

    Run("systemctl stop data.mount; systemctl stop vm1-loop || true; "
        "while losetup -a | grep pcache; do sleep 0.2; done; "
        "e2fsck -f -n /mnt/pcache/vm1");
    Run("pcachectl set /mnt/pcache vm1 writeback_rate=0 && "
        "pcachectl stop /mnt/pcache --drain");
    Run("e2fsck -f -n /dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_slow");
    ASSERT_NO_FATAL_FAILURE(PowerOff());
  }

  // Writes, syncs and verifies until /data/stop is there; /run/writer then says
  // how many rounds, and what failed.
  void StartWriter() {
    Run(R"sh(
cat > /run/writer.sh <<'END'
rounds=0
while [ ! -e /data/stop ]; do
  dd if=/dev/urandom of=/data/written bs=64k count=16 conv=fsync status=none &&
    sum=$(sha256sum /data/written) &&
    dd if=/data/written of=/dev/null iflag=direct bs=64k status=none &&
    [ "$(sha256sum /data/written)" = "$sum" ] || echo ERROR
  rounds=$((rounds + 1))
done
echo "rounds $rounds"
END
systemd-run --quiet --unit=writer --property=StandardOutput=file:/run/writer \
  --property=StandardError=file:/run/writer bash /run/writer.sh
)sh");
  }
  void StopWriter() {
    Run("touch /data/stop; while systemctl -q is-active writer; do sleep 0.2; "
        "done; rm /data/stop");
    const std::string said = Run("cat /run/writer");
    std::cout << "writer: " << said << std::endl;
    EXPECT_THAT(said, testing::MatchesRegex("rounds [0-9]+"));
    ExpectNoTroubles();
    if (HasFailure()) {
      std::cout << Run("journalctl -b --no-pager -o short-monotonic "
                       "-u pcachefs@vm | tail -n 80; "
                       "pcachectl status /mnt/pcache --json | jq .failover");
    }
  }
  // That the service is up, in a later life than at `before`.
  void WaitForLifeAfter(int64_t before) {
    Run(absl::StrCat("until [ $(systemctl show --value -p "
                     "ActiveEnterTimestampMonotonic pcachefs@vm) -gt ",
                     before,
                     " ] && systemctl -q is-active pcachefs@vm; do sleep 0.2; "
                     "done"));
  }
  // Of the service: options of a drop-in.
  void DropIn(const std::string& options) {
    Run("mkdir -p /etc/systemd/system/pcachefs@.service.d\n"
        "cat > /etc/systemd/system/pcachefs@.service.d/test.conf <<'END'\n" +
        options + "\nEND\nsystemctl daemon-reload");
  }

  static ScratchDirectory* scratch_;
  const ScratchDirectory directory_;
  std::unique_ptr<Guest> guest_;
};

ScratchDirectory* BootTest::scratch_ = nullptr;

TEST_F(BootTest, FstabOrdersTheFilesystemAfterTheService) {
  GoDownAndUpAgain();
}

TEST_F(BootTest, TheLoopUnitOfTheRecipeDoesToo) {
  ASSERT_NO_FATAL_FAILURE(Boot());
  Run("systemctl stop data.mount\n"
      "grep -v pcache /etc/fstab > /run/fstab; cat /run/fstab > /etc/fstab\n"
      "cat >> /etc/fstab <<'END'\n" +
      LineWith("docs/recipes.md", "x-systemd.requires=vm1-loop.service") +
      "\nEND\ncat > /etc/systemd/system/vm1-loop.service <<'END'\n" +
      UnitOfRecipe("vm1-loop.service") + "\nEND\n" +
      "systemctl daemon-reload; systemctl enable vm1-loop");
  ASSERT_NO_FATAL_FAILURE(PowerOff());
  GoDownAndUpAgain();
}

TEST_F(BootTest, WaitsForADiskThatAppearsLate) {
  ASSERT_NO_FATAL_FAILURE(Boot());
  Run(R"(
sed -i 's|vm1=.*|vm1=/run/late|' /etc/pcachefs/vm.conf
cat > /etc/systemd/system/late.service <<'END'
[Service]
ExecStart=sh -c 'sleep 10; ln -s /dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_slow /run/late'
[Install]
WantedBy=basic.target
END
systemctl enable late
)");
  ASSERT_NO_FATAL_FAILURE(PowerOff());
  ASSERT_NO_FATAL_FAILURE(Boot());
  EXPECT_EQ(Run("findmnt -n -o FSTYPE /data"), "ext4");
  EXPECT_EQ(Number("NRestarts"), 0);
  ASSERT_NO_FATAL_FAILURE(PowerOff());
}

TEST_F(BootTest, StopsRestartsAndSaysWhatItDoes) {
  ASSERT_NO_FATAL_FAILURE(Boot());
  EXPECT_EQ(Property("Type"), "notify");
  EXPECT_THAT(Run("until systemctl show -p StatusText pcachefs@vm | grep "
                  "serving; do sleep 0.2; done"),
              HasSubstr("serving 1 image, "));
  std::cout << "service start: "
            << absl::Microseconds(Number("ActiveEnterTimestampMonotonic") -
                                  Number("InactiveExitTimestampMonotonic"))
            << std::endl;
  WriteFiles("first");

  // The filesystem goes down and up with it.
  Run("systemctl restart pcachefs@vm");
  Run("systemctl start data.mount && findmnt /data");
  CheckFiles("first");
  const absl::Time begin = absl::Now();
  Run("systemctl stop pcachefs@vm");
  std::cout << "systemctl stop, with the filesystem: " << absl::Now() - begin
            << std::endl;
  EXPECT_EQ(Property("Result"), "success");
  EXPECT_THAT(guest_->Run("findmnt /data || findmnt /mnt/pcache"),
              ExitsWith(1));
  EXPECT_EQ(Run("systemctl show --value -p NFileDescriptorStore pcachefs@vm"),
            "0");
  // Asked for the filesystem, systemd starts the service first.
  Run("systemctl start data.mount");
  CheckFiles("first");
  ExpectNoTroubles();
  ASSERT_NO_FATAL_FAILURE(PowerOff());
}

TEST_F(BootTest, IsHardened) {
  ASSERT_NO_FATAL_FAILURE(Boot());
  const std::string exposure =
      Run("systemd-analyze security --no-pager pcachefs@vm | tail -1");
  std::cout << exposure << std::endl;
  // A mount for all to see and raw devices cost most of it.
  EXPECT_THAT(guest_->Run("systemd-analyze security --threshold=50 pcachefs@vm "
                          ">/dev/null"),
              Succeeds())
      << exposure;
  const std::string daemon =
      Run("cat /proc/$(pcachectl status /mnt/pcache --json | jq "
          ".server.pid)/status");
  EXPECT_THAT(daemon, AllOf(HasSubstr("NoNewPrivs:\t1"),
                            HasSubstr("Seccomp:\t2")));
  EXPECT_EQ(Run("pcachectl status /mnt/pcache --json | jq -c "
                "'[.server.memory_locked, .server.io_flusher, "
                ".failover.descriptor_store]'"),
            "[true,true,true]");
  EXPECT_EQ(Run("cat /proc/$(systemctl show --value -p MainPID pcachefs@vm)/"
                "oom_score_adj"),
            "-950");
  ASSERT_NO_FATAL_FAILURE(PowerOff());
}

TEST_F(BootTest, TheFilesystemOutlivesTheServicesProcesses) {
  ASSERT_NO_FATAL_FAILURE(Boot());
  DropIn("[Service]\nWatchdogSec=15s");
  Run("systemctl restart pcachefs@vm && systemctl start data.mount");
  EXPECT_GT(Number("NFileDescriptorStore"), 1);
  StartWriter();
  for (const char* who : {"main", "all", "main", "all"}) {
    SCOPED_TRACE(who);
    const int64_t before = Number("ActiveEnterTimestampMonotonic");
    const absl::Time begin = absl::Now();
    Run(absl::StrCat("systemctl kill -s KILL --kill-who=", who,
                     " pcachefs@vm"));
    WaitForLifeAfter(before);
    std::cout << "killed (" << who << "), serving again after "
              << absl::Now() - begin << std::endl;
    EXPECT_GT(Number("NFileDescriptorStore"), 1);
    Run("sync -f /data");
  }
  EXPECT_EQ(Number("NRestarts"), 4);
  StopWriter();
  ASSERT_NO_FATAL_FAILURE(PowerOff());
}

// A daemon that hangs is not one that dies: systemd misses its signs of life.
TEST_F(BootTest, TheWatchdogEndsADaemonThatHangs) {
  ASSERT_NO_FATAL_FAILURE(Boot());
  DropIn("[Service]\nWatchdogSec=20s");
  Run("systemctl restart pcachefs@vm && systemctl start data.mount");
  StartWriter();
  const int64_t before = Number("ActiveEnterTimestampMonotonic");
  const absl::Time begin = absl::Now();
  Run("kill -STOP $(pcachectl status /mnt/pcache --json | jq .server.pid)");
  WaitForLifeAfter(before);
  std::cout << "hung with WatchdogSec=20s, serving again after "
            << absl::Now() - begin << std::endl;
  EXPECT_EQ(Number("NRestarts"), 1);
  StopWriter();
  EXPECT_THAT(Run("journalctl -b --no-pager -o cat -u pcachefs@vm"),
              HasSubstr("Watchdog timeout"));
  ASSERT_NO_FATAL_FAILURE(PowerOff());
}

TEST_F(BootTest, ReloadHandsOverToTheInstalledProgram) {
  ASSERT_NO_FATAL_FAILURE(Boot());
  Run("findmnt /data");
  StartWriter();
  const std::string pid =
      "pcachectl status /mnt/pcache --json | jq .server.pid";
  const std::string before = Run(pid);
  const int64_t main = Number("MainPID");
  // As a package does: another file under the same name.
  Run("cp /usr/bin/pcachefs /usr/bin/new && mv /usr/bin/new /usr/bin/pcachefs "
      "&& systemctl reload pcachefs@vm");
  std::cout << "reload: "
            << Run("journalctl -b -o cat -u pcachefs@vm | "
                   "grep -o 'requests waited for.*' | tail -n 1")
            << std::endl;
  const std::string after = Run(pid);
  EXPECT_NE(after, before);
  EXPECT_EQ(Run("stat -L -c %i /proc/" + after + "/exe"),
            Run("stat -c %i /usr/bin/pcachefs"));
  EXPECT_EQ(Number("MainPID"), main);
  EXPECT_EQ(Property("ActiveState"), "active");
  // One that is not a program: the reload fails, the service does not.
  Run("cp /usr/bin/pcachefs /run/kept && echo x >/usr/bin/new && "
      "mv /usr/bin/new /usr/bin/pcachefs");
  EXPECT_THAT(guest_->Run("systemctl reload pcachefs@vm"), ExitsWith(1));
  EXPECT_EQ(Property("ActiveState"), "active");
  Run("cp /run/kept /usr/bin/new && mv /usr/bin/new /usr/bin/pcachefs");
  StopWriter();
  ASSERT_NO_FATAL_FAILURE(PowerOff());
}

TEST_F(BootTest, WhatWasSyncedSurvivesAPowerCut) {
  ASSERT_NO_FATAL_FAILURE(Boot());
  WriteFiles("first");
  Run("sync");
  StartWriter();
  Run("sleep 5");
  guest_->CutPower();
  ASSERT_NO_FATAL_FAILURE(Boot());
  CheckFiles("first");
  EXPECT_THAT(Run("dmesg"), HasSubstr("recovery complete"));
  ExpectNoTroubles();
  Run("systemctl stop data.mount && e2fsck -f -n /mnt/pcache/vm1");
  ASSERT_NO_FATAL_FAILURE(PowerOff());
}

}  // namespace
}  // namespace pcachefs
