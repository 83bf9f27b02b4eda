// pcachectl upgrade of a mount over io_uring: nothing that waits in the rings
// is lost, and a death of the daemon is the end of the mount, as it was said.
//
//   bazel run --config=ci //test/e2e:ring_upgrade_test -- --upgrades=200
//
// is the long form (--gtest_filter=*Load* for the load alone).

#include <signal.h>

#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "nlohmann/json.hpp"
#include "test/e2e/testing/failover_cache.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/scratch_directory.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

class RingUpgradeTest : public testing::Test {
 protected:
  RingUpgradeTest()
      : enabled_("/sys/module/fuse/parameters/enable_uring", "Y"),
        cache_({.backing_size = 64 * kMiB,
                .cache_size = "48M",
                .flags = {"--planned_failover"}}) {}

  ServedCache& served() { return cache_.served(); }

  // False, having checked that it is refused, if this machine has not what
  // rings need.
  bool StartsOverRing() {
    const absl::Status started = cache_.Start();
    if (started.ok()) {
      const auto status = served().Status();
      EXPECT_EQ(status->value("transport", ""), "io_uring");
      EXPECT_TRUE(cache_.Failover().value("planned_only", false));
      return true;
    }
    EXPECT_THAT(
        RunCommand(served().Command()),
        RefusesWith(1, AnyOf(HasSubstr("libfuse"), HasSubstr("kernel"))));
    return false;
  }
  Outcome Upgrade() { return served().Control("upgrade"); }

  const ScopedSetting enabled_;
  FailoverCache cache_;
};

TEST_F(RingUpgradeTest, NothingFailsUnderLoad) {
  ASSERT_THAT(RequirePrograms({"fio"}), IsOk());
  if (!StartsOverRing()) return;
  const int upgrades = static_cast<int>(NumberFlag("upgrades", 5));
  auto load = Process::Start(
      {"fio", "--name=verify", "--filename=" + served().image(),
       "--rw=randwrite", "--bsrange=4k-64k", "--size=24M", "--loops=1000",
       "--direct=1", "--ioengine=libaio", "--iodepth=16", "--fsync=200",
       "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=400",
       "--time_based", absl::StrCat("--runtime=", 5 + upgrades),
       "--aux-path=" + served().directory().path()});
  ASSERT_THAT(load, IsOk());
  for (int i = 1; i <= upgrades; ++i) {
    const pid_t before = cache_.DaemonPid();
    const Outcome outcome = Upgrade();
    ASSERT_THAT(outcome, Succeeds());
    EXPECT_NE(cache_.DaemonPid(), before);
    std::cout << outcome.out;
  }
  ASSERT_TRUE((*load)->WaitFor(absl::Minutes(2) +
                               absl::Seconds(upgrades)));
  EXPECT_THAT((*load)->outcome(), Succeeds());
  EXPECT_EQ(cache_.Failover().value("upgrades", 0), upgrades);
  EXPECT_EQ(cache_.Failover().value("restarts", 1), 0);
  std::cout << cache_.Failover().dump() << "\n";
  EXPECT_THAT(served().Stop(), IsOk());
}

TEST_F(RingUpgradeTest, AProgramThatCannotStartLeavesTheOldOneServing) {
  if (!StartsOverRing()) return;
  ASSERT_THAT(WritePattern(served().image(), 1, 0, 8 * kMiB), IsOk());
  const pid_t daemon = cache_.DaemonPid();
  EXPECT_THAT(served().Control("upgrade", {"--binary=/bin/false"}),
              RefusesWith(1, HasSubstr("the old program goes on serving")));
  EXPECT_EQ(cache_.DaemonPid(), daemon);

  // Whoever starts now misses a device.
  const std::string away = served().backing() + ".away";
  ASSERT_EQ(rename(served().backing().c_str(), away.c_str()), 0);
  auto upgrade =
      Process::Start({PcachectlPath(), "upgrade", served().mount()});
  ASSERT_THAT(upgrade, IsOk());
  auto reader = Process::Start(
      {"dd", "if=" + served().image(), "of=/dev/null", "bs=1M", "count=8",
       "iflag=direct"});
  ASSERT_THAT(reader, IsOk());
  absl::SleepFor(absl::Seconds(1));
  ASSERT_EQ(rename(away.c_str(), served().backing().c_str()), 0);

  ASSERT_TRUE((*upgrade)->WaitFor(absl::Minutes(1)));
  EXPECT_THAT((*upgrade)->outcome(),
              RefusesWith(1, HasSubstr("the old program")));
  ASSERT_TRUE((*reader)->WaitFor(absl::Minutes(1)));
  EXPECT_THAT((*reader)->outcome(), Succeeds());
  EXPECT_THAT(CheckPattern(served().image(), 1, 0, 8 * kMiB), IsOk());
  EXPECT_THAT(Upgrade(), Succeeds());
  EXPECT_THAT(CheckPattern(served().image(), 1, 0, 8 * kMiB), IsOk());
}

TEST_F(RingUpgradeTest, ADeathIsTheEndOfTheMount) {
  if (!StartsOverRing()) return;
  ASSERT_THAT(WritePattern(served().image(), 1, 0, 8 * kMiB), IsOk());
  ASSERT_THAT(Upgrade(), Succeeds());
  ASSERT_EQ(kill(cache_.DaemonPid(), SIGKILL), 0);
  EXPECT_NE(served().WaitForExit(), 0);
  EXPECT_FALSE(IsMounted(served().mount()));
  // Nothing is lost but the mount.
  ASSERT_THAT(cache_.Start(), IsOk());
  EXPECT_THAT(CheckPattern(served().image(), 1, 0, 8 * kMiB), IsOk());
  EXPECT_THAT(served().Stop(), IsOk());
}

TEST_F(RingUpgradeTest, WhatDoesNotGoTogetherIsRefused) {
  served().options().flags.push_back("--transport=dev_fuse");
  EXPECT_THAT(RunCommand(served().Command()),
              RefusesWith(1, HasSubstr("--transport=io_uring")));
  served().options().flags.back() = "--failover";
  EXPECT_THAT(RunCommand(served().Command()),
              RefusesWith(2, HasSubstr("want one of them")));
  EXPECT_FALSE(IsMounted(served().mount()));
}

}  // namespace
}  // namespace pcachefs
