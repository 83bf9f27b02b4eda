// A virtual machine whose disk is the image: Linux has its root filesystem on
// it, writes, verifies, discards and powers off; the daemon dies in between;
// the next boot finds all that the one before had synced.
//
// Not among the others, as it takes an emulator, a kernel and minutes:
//
//   tools/setup --guest
//   bazel test --config=ci //test/e2e:guest_test

#include <sys/stat.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/guest.h"
#include "test/e2e/testing/loop_device.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;

// The guest's only program beside busybox. Says GUEST-OK when everything that
// earlier boots wrote is there, and what this one wrote too, read from the
// disk.
constexpr char kInit[] = R"(#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
set -e
trap 'sync; poweroff -f' EXIT
cd /data
for sums in *.sums; do
  [ ! -e "$sums" ] || sha256sum -c -s "$sums"
done
n=$(ls | wc -l)
for i in 1 2 3 4; do
  dd if=/dev/urandom of=boot$n.$i bs=64k count=96 2>/dev/null
done
sha256sum boot$n.* > $n.sums
dd if=/dev/urandom of=/removed bs=64k count=64 2>/dev/null
sync
rm /removed
fstrim /
echo 3 > /proc/sys/vm/drop_caches
sha256sum -c -s $n.sums
sync
echo GUEST-OK
)";

class GuestTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(RequirePrograms({"qemu-system-x86_64", "busybox"}), IsOk());
    const auto guest = GuestDirectory();
    ASSERT_THAT(guest, IsOk());
    kernel_ = *guest + "/vmlinuz";
    ASSERT_THAT(served_.Start(), IsOk());
    ASSERT_NO_FATAL_FAILURE(MakeRoot());
  }

  void MakeRoot() {
    auto loop = LoopDevice::Attach(served_.image());
    ASSERT_THAT(loop, IsOk());
    ASSERT_THAT(MakeFilesystem("ext4", (*loop)->path()), IsOk());
    ASSERT_THAT(Mount((*loop)->path(), root_), IsOk());
    for (const char* name : {"/bin", "/dev", "/proc", "/data"}) {
      mkdir((root_ + name).c_str(), 0755);
    }
    ASSERT_THAT(RunCommand({"cp", "-L", "/bin/busybox", root_ + "/bin/"}),
                Succeeds());
    std::ofstream(root_ + "/init") << kInit;
    ASSERT_EQ(chmod((root_ + "/init").c_str(), 0755), 0);
    ASSERT_THAT(Unmount(root_), IsOk());
  }

  // Emulated, so that it is the same everywhere. NVMe, as its driver is in the
  // kernel itself; with flushes and discards.
  Outcome Boot() {
    return RunCommand(
        {"qemu-system-x86_64", "-accel", "tcg", "-cpu", kGuestProcessor, "-m", "256", "-nographic",
         "-nic", "none", "-no-reboot", "-drive",
         absl::StrCat("file=", served_.image(),
                      ",format=raw,if=none,id=disk,cache=none,discard=unmap"),
         "-device", "nvme,drive=disk,serial=1", "-kernel", kernel_, "-append",
         "root=/dev/nvme0n1 rw init=/init console=ttyS0 quiet panic=-1"},
        absl::Minutes(10));
  }

  ServedCache served_{{.backing_size = 256 * kMiB, .cache_size = "64M"}};
  const std::string root_ = served_.directory().File("root");
  std::string kernel_;
};

TEST_F(GuestTest, BootsFromTheImageAgainAndAgain) {
  for (int boot = 1; boot <= 3; ++boot) {
    SCOPED_TRACE(absl::StrCat("boot ", boot));
    const Outcome outcome = Boot();
    ASSERT_THAT(outcome, Succeeds());
    ASSERT_THAT(outcome.out, HasSubstr("GUEST-OK")) << outcome;
    served_.Kill();
    ASSERT_THAT(served_.Start(), IsOk());
  }

  // The drained backing device is the guest's disk.
  ASSERT_THAT(served_.Control("stop", {"--drain"}), Succeeds());
  ASSERT_EQ(served_.WaitForExit(), 0);
  auto backing = LoopDevice::Attach(served_.backing());
  ASSERT_THAT(backing, IsOk());
  // Replays the journal.
  ASSERT_THAT(Mount((*backing)->path(), root_), IsOk());
  EXPECT_THAT(RunCommand({"sh", "-c",
                          absl::StrCat("cd ", root_,
                                       "/data && ls *.sums | "
                                       "wc -l && sha256sum -c *.sums")}),
              Succeeds());
  EXPECT_THAT(Unmount(root_), IsOk());
  EXPECT_THAT(CheckFilesystem("ext4", (*backing)->path()), IsOk());
}

}  // namespace
}  // namespace pcachefs
