// pcachectl upgrade: another program file takes the mount over, or the old one
// goes on.

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/failover_cache.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;

class UpgradeTest : public testing::Test {
 protected:
  UpgradeTest() : cache_({.backing_size = 64 * kMiB, .cache_size = "48M"}) {}

  ServedCache& served() { return cache_.served(); }

  // Another program file with the same program.
  std::string MakeProgram(const std::string& name) {
    const std::string path = served().directory().File(name);
    std::filesystem::copy_file(PcachefsPath(), path);
    chmod(path.c_str(), 0755);
    return path;
  }
  std::string ProgramOf(pid_t pid) {
    std::error_code error;
    return std::filesystem::read_symlink(absl::StrCat("/proc/", pid, "/exe"),
                                         error)
        .string();
  }
  Outcome Upgrade(const std::string& program) {
    return served().Control("upgrade", {"--binary=" + program});
  }

  FailoverCache cache_;
};

// As systemctl reload does.
TEST_F(UpgradeTest, AConfigNamesTheMount) {
  ASSERT_THAT(served().Start(), IsOk());
  const std::string config = served().directory().File("vm.conf");
  std::ofstream(config) << "cache = " << served().cache() << "\nmountpoint = "
                        << served().mount() << "\n";
  EXPECT_THAT(RunCommand({PcachectlPath(), "upgrade", config}), Succeeds());
  EXPECT_TRUE(IsServed(served().mount()));
  std::ofstream(config) << "mountpoint = " << served().mount() << "\n";
  EXPECT_THAT(RunCommand({PcachectlPath(), "upgrade", config}),
              RefusesWith(2, HasSubstr("vm.conf: cache is missing")));
}

TEST_F(UpgradeTest, NothingFailsUnderLoad) {
  ASSERT_THAT(RequirePrograms({"fio"}), IsOk());
  ASSERT_THAT(cache_.Start(), IsOk());
  // Before the load begins, which ends by itself.
  std::vector<std::string> programs;
  for (int i = 1; i <= 3; ++i) {
    programs.push_back(MakeProgram(absl::StrCat("program", i)));
  }
  auto load = Process::Start(
      {"fio", "--name=verify", "--filename=" + served().image(),
       "--rw=randwrite", "--bsrange=4k-64k", "--size=24M",
       "--direct=1", "--ioengine=libaio", "--iodepth=16", "--fsync=200",
       "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=400",
       "--rate_iops=800", "--aux-path=" + served().directory().path()});
  ASSERT_THAT(load, IsOk());
  for (const std::string& program : programs) {
    const pid_t before = cache_.DaemonPid();

    const Outcome outcome = Upgrade(program);

    EXPECT_THAT(outcome, Succeeds());
    EXPECT_THAT(outcome.out, HasSubstr("requests waited for"));
    const pid_t after = cache_.DaemonPid();
    EXPECT_NE(after, before);
    EXPECT_EQ(ProgramOf(after), program);
    std::cout << outcome.out;
  }
  EXPECT_FALSE((*load)->WaitFor(absl::ZeroDuration())) << "was no load";
  ASSERT_TRUE((*load)->WaitFor(absl::Minutes(2)));
  EXPECT_THAT((*load)->outcome(), Succeeds());
  EXPECT_EQ(cache_.Failover().value("upgrades", 0), 3);
  EXPECT_EQ(cache_.Failover().value("restarts", 1), 0);
  EXPECT_THAT(served().Stop(), IsOk());
}

TEST_F(UpgradeTest, AProgramThatCannotStartLeavesTheOldOneServing) {
  ASSERT_THAT(cache_.Start(), IsOk());
  const pid_t daemon = cache_.DaemonPid();
  const std::string text = served().directory().File("text");
  std::ofstream(text) << "no program\n";
  chmod(text.c_str(), 0755);

  EXPECT_THAT(Upgrade("/bin/false"),
              RefusesWith(1, HasSubstr("the old program goes on serving")));
  EXPECT_THAT(Upgrade(text), RefusesWith(1, HasSubstr("cannot be run")));
  const std::string open_to_all = MakeProgram("open_to_all");
  chmod(open_to_all.c_str(), 0777);
  EXPECT_THAT(Upgrade(open_to_all),
              RefusesWith(1, HasSubstr("may be changed by others")));
  EXPECT_THAT(Upgrade("/no/such"), RefusesWith(2, HasSubstr("/no/such")));
  // A program of another age, which does not know a flag of ours.
  EXPECT_THAT(Upgrade(PcachectlPath()), RefusesWith(1, HasSubstr("upgrade")));

  EXPECT_EQ(cache_.DaemonPid(), daemon);
  EXPECT_THAT(WritePattern(served().image(), 1, 0, kMiB), IsOk());
  EXPECT_EQ(cache_.Failover().value("upgrades", 1), 0);
}

TEST_F(UpgradeTest, AProgramThatRefusesTheCacheLeavesItToTheOldOne) {
  ASSERT_THAT(cache_.Start(), IsOk());
  ASSERT_THAT(WritePattern(served().image(), 1, 0, 8 * kMiB), IsOk());
  const std::string old_program = ProgramOf(cache_.DaemonPid());
  const std::string program = MakeProgram("program");
  // Neither the new program nor the old one finds it, until it is back.
  const std::string cache = served().cache();
  ASSERT_EQ(rename(cache.c_str(), (cache + ".away").c_str()), 0);
  auto upgrade = Process::Start({PcachectlPath(), "upgrade", served().mount(),
                                 "--binary=" + program});
  ASSERT_THAT(upgrade, IsOk());
  ASSERT_TRUE(WaitUntil(absl::Minutes(1), [&] {
    return served().Log().find("] upgrade: ") != std::string::npos;
  }));
  auto reader = Process::Start(
      {"dd", "if=" + served().image(), "of=/dev/null", "bs=1M", "count=8"});
  ASSERT_THAT(reader, IsOk());
  EXPECT_FALSE((*reader)->WaitFor(absl::Milliseconds(100)));
  ASSERT_EQ(rename((cache + ".away").c_str(), cache.c_str()), 0);

  ASSERT_TRUE((*upgrade)->WaitFor(absl::Minutes(1)));
  EXPECT_THAT((*upgrade)->outcome(), RefusesWith(1, HasSubstr(cache)));
  ASSERT_TRUE((*reader)->WaitFor(absl::Minutes(1)));
  EXPECT_THAT((*reader)->outcome(), Succeeds());
  EXPECT_EQ(ProgramOf(cache_.DaemonPid()), old_program);
  EXPECT_THAT(CheckPattern(served().image(), 1, 0, 8 * kMiB), IsOk());
}

TEST_F(UpgradeTest, ADeathAfterAnUpgradeIsSucceededByTheSameProgram) {
  ASSERT_THAT(cache_.Start(), IsOk());
  const std::string program = MakeProgram("program");
  ASSERT_THAT(Upgrade(program), Succeeds());
  // Also when a package has replaced the file.
  ASSERT_EQ(unlink(program.c_str()), 0);
  ASSERT_THAT(cache_.KillDaemon(), IsOk());
  ASSERT_THAT(cache_.AwaitRestarts(1), IsOk());
  EXPECT_EQ(ProgramOf(cache_.DaemonPid()), program + " (deleted)");
  EXPECT_THAT(WritePattern(served().image(), 1, 0, kMiB), IsOk());
}

TEST(UpgradeWithoutFailoverTest, IsRefusedWithTheReason) {
  ServedCache served({.backing_size = 16 * kMiB});
  ASSERT_THAT(served.Start(), IsOk());
  EXPECT_THAT(served.Control("upgrade"),
              RefusesWith(1, HasSubstr("--failover")));
  EXPECT_THAT(served.Stop(), IsOk());
}

}  // namespace
}  // namespace pcachefs
