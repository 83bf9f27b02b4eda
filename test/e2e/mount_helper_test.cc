// mount(8) and fstab. The helper must lie in /sbin, so all of this is done in a
// mount namespace of its own, in which /sbin has nothing but the helper.

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/scratch_directory.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr uint64_t kSize = 32 << 20;

class MountHelperTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(RequirePrograms({"unshare", "mount", "umount"}), IsOk());
    MakeFile(directory_.File("disk"), kSize);
    ASSERT_THAT(RunCommand({"mkdir", directory_.File("mnt")}), Succeeds());
  }

  // $d is the directory of the test.
  Outcome Run(const std::string& script) {
    return RunCommand(
        {"unshare", "--mount", "--propagation", "private", "bash", "-c",
         absl::StrCat("set -e; d=", directory_.path(),
                      "; mount -t tmpfs tmpfs $(readlink -f /sbin)"
                      "; ln -s ",
                      PcachefsPath(), " /sbin/mount.pcachefs\n", script)});
  }

  ScratchDirectory directory_;
};

TEST_F(MountHelperTest, MountServesAndUmountStops) {
  const Outcome outcome = Run(R"(
    mount -t pcachefs $d/cache $d/mnt \
      -o cache_size=32M,backing=vm1=$d/disk,nofail,x-systemd.automount,noatime
    echo hello | dd of=$d/mnt/vm1 conv=notrunc,fsync status=none
    grep " $d/mnt fuse" /proc/mounts
    umount $d/mnt
    until flock --nonblock $d/cache true; do sleep 0.1; done
    # Dirty data stayed in the cache, and the cache knows the image.
    mount -t pcachefs $d/cache $d/mnt -o ro
    head -c 5 $d/mnt/vm1
    ! dd if=/dev/zero of=$d/mnt/vm1 conv=notrunc count=1 2>/dev/null
    umount $d/mnt
  )");
  EXPECT_THAT(outcome, Succeeds());
  EXPECT_THAT(outcome.out, HasSubstr("pcachefs"));
  EXPECT_THAT(outcome.out, HasSubstr("hello"));
}

TEST_F(MountHelperTest, FstabLine) {
  const Outcome outcome = Run(R"(
    echo "$d/cache $d/mnt pcachefs \
cache_size=32M,backing=vm1=$d/disk,backing=vm\0402=$d/missing,noauto,user,\
_netdev,comment=x,x-systemd.requires=y.service 0 0" >$d/bad
    sed 's/,backing=vm.0402=[^,]*//' $d/bad >$d/fstab
    ! mount --fstab $d/bad $d/mnt
    mount --fstab $d/fstab $d/mnt
    stat -c %s $d/mnt/vm1
    umount $d/mnt
  )");
  EXPECT_THAT(outcome, Succeeds());
  EXPECT_THAT(outcome.out, HasSubstr(absl::StrCat(kSize)));
}

TEST_F(MountHelperTest, WhatFailsIsSaidByMount) {
  const Outcome unknown = Run("mount -t pcachefs $d/cache $d/mnt -o cashe=1");
  EXPECT_FALSE(unknown.ok());
  EXPECT_THAT(unknown.err, HasSubstr("unknown option 'cashe'"));
  const Outcome missing = Run("mount -t pcachefs $d/cache $d/mnt");
  EXPECT_FALSE(missing.ok());
  EXPECT_THAT(missing.err,
              AllOf(HasSubstr("cache"), HasSubstr("--cache_size")));
}

TEST_F(MountHelperTest, FakeChecksOnly) {
  EXPECT_THAT(Run("/sbin/mount.pcachefs $d/cache $d/mnt -f -o cache_size=32M; "
                  "! test -e $d/cache; ! mountpoint -q $d/mnt"),
              Succeeds());
}

}  // namespace
}  // namespace pcachefs
