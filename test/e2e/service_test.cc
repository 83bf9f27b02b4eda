// The daemon as a service: config file, what systemd hears, the units.

#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/scratch_directory.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/notify_socket.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

constexpr char kDist[] = "tools/dist/systemd/";

class ServiceTest : public testing::Test {
 protected:
  void WriteConfig(const std::string& more = "") {
    std::ofstream(config_) << "cache = " << served_.cache()
                           << "\ncache_size = 32M\nmountpoint = "
                           << served_.mount() << "\nbacking = disk="
                           << served_.backing() << "\n"
                           << more;
  }
  // With the programs where they are.
  std::string Unit() {
    return absl::StrReplaceAll(
        ContentOf(std::string(kDist) + "pcachefs@.service"),
        {{"/usr/bin/pcachefs", PcachefsPath()},
         {"/usr/bin/pcachectl", PcachectlPath()}});
  }
  Outcome Ctl(const std::string& verb, const std::string& argument) {
    return RunCommand({PcachectlPath(), verb, argument});
  }

  ServedCache served_{{.backing_size = 16 * kMiB}};
  const std::string config_ = served_.directory().File("vm.conf");
};

TEST_F(ServiceTest, AConfigFileServes) {
  WriteConfig("gc_percent = 55\n");
  EXPECT_THAT(Ctl("check-config", config_), Succeeds());
  ASSERT_THAT(RunCommand({PcachefsPath(), "--config=" + config_}), Succeeds());
  const auto image = served_.ImageStatus();
  ASSERT_THAT(image, IsOk());
  EXPECT_EQ(image->value("gc_percent", 0), 55);
  EXPECT_THAT(served_.Control("stop"), Succeeds());
}

TEST_F(ServiceTest, ABadConfigNamesItsLines) {
  WriteConfig("gc_percent = 555\nno_such = 1\n");
  EXPECT_THAT(Ctl("check-config", config_),
              RefusesWith(1, AllOf(HasSubstr("vm.conf:5: gc_percent"),
                                   HasSubstr("vm.conf:6: unknown key"))));
  EXPECT_THAT(RunCommand({PcachefsPath(), "--config=" + config_}),
              RefusesWith(2, HasSubstr("vm.conf:5: gc_percent")));
  EXPECT_THAT(RunCommand({PcachefsPath(), "--config=/no/such"}),
              RefusesWith(2, HasSubstr("config /no/such")));
}

TEST_F(ServiceTest, TheCheckWaitsForDevices) {
  const std::string late = served_.directory().File("late");
  WriteConfig("backing = late=" + late + "\n");
  EXPECT_THAT(RunCommand({PcachectlPath(), "check-config", "--wait=0", config_}),
              RefusesWith(1, HasSubstr(late + ": not there after 0 s")));
  EXPECT_THAT(RunCommand({PcachectlPath(), "check-config", "--wait=x", config_}),
              RefusesWith(2, HasSubstr("--wait: got 'x'")));
  auto check = Process::Start(
      {PcachectlPath(), "check-config", "--wait=60", config_});
  ASSERT_THAT(check, IsOk());
  EXPECT_FALSE((*check)->WaitFor(absl::Seconds(1)));
  MakeFile(late, kMiB);
  ASSERT_TRUE((*check)->WaitFor(absl::Seconds(60)));
  EXPECT_THAT((*check)->outcome(), Succeeds());
}

TEST_F(ServiceTest, TheManagerHearsOfStartLifeAndStop) {
  NotifySocket manager;
  WriteConfig();
  setenv("NOTIFY_SOCKET", manager.name().c_str(), 1);
  setenv("WATCHDOG_USEC", "300000", 1);
  auto daemon = Process::Start(
      {PcachefsPath(), "--foreground", "--config=" + config_});
  unsetenv("NOTIFY_SOCKET");
  unsetenv("WATCHDOG_USEC");
  ASSERT_THAT(daemon, IsOk());
  EXPECT_TRUE(manager.WaitFor("STATUS=replaying " + served_.cache()));
  EXPECT_TRUE(manager.WaitFor("READY=1\n"));
  EXPECT_TRUE(IsServed(served_.mount()));
  EXPECT_TRUE(manager.WaitFor("STATUS=serving 1 image, "));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(manager.WaitFor("WATCHDOG=1"));
  (*daemon)->Signal(SIGTERM);
  EXPECT_TRUE(manager.WaitFor("STOPPING=1"));
  EXPECT_TRUE((*daemon)->WaitFor(absl::Minutes(1)));
  EXPECT_THAT((*daemon)->outcome(), Succeeds());
}

TEST_F(ServiceTest, ADeadDaemonsMountIsCleared) {
  NotifySocket manager;
  WriteConfig();
  setenv("NOTIFY_SOCKET", manager.name().c_str(), 1);
  setenv("WATCHDOG_USEC", "300000", 1);
  auto daemon = Process::Start(
      {PcachefsPath(), "--foreground", "--config=" + config_});
  unsetenv("NOTIFY_SOCKET");
  unsetenv("WATCHDOG_USEC");
  ASSERT_THAT(daemon, IsOk());
  ASSERT_TRUE(manager.WaitFor("WATCHDOG=1"));
  // What systemd does then, and what ExecStopPost clears up after it.
  (*daemon)->Signal(SIGABRT);
  ASSERT_TRUE((*daemon)->WaitFor(absl::Minutes(1)));
  ASSERT_TRUE(IsMounted(served_.mount()));
  EXPECT_THAT(Ctl("clear-mount", config_), Succeeds());
  EXPECT_FALSE(IsMounted(served_.mount()));
  ASSERT_THAT(RunCommand({PcachefsPath(), "--config=" + config_}), Succeeds());
  // A living mount is none of its business.
  EXPECT_THAT(Ctl("clear-mount", config_), Succeeds());
  EXPECT_TRUE(IsServed(served_.mount()));
}

TEST_F(ServiceTest, UnitsAreAsSystemdWantsThem) {
  ASSERT_THAT(RequirePrograms({"systemd-analyze"}), IsOk());
  EXPECT_THAT(Unit(), AllOf(HasSubstr("Type=notify"), HasSubstr("--failover"),
                            HasSubstr("FileDescriptorStoreMax=80")));
  const std::string path = served_.directory().File("pcachefs@vm.service");
  std::ofstream(path) << Unit();
  const Outcome outcome = RunCommand({"systemd-analyze", "--man=no", "verify",
                                      path});
  EXPECT_THAT(outcome, Succeeds());
  EXPECT_EQ(outcome.err, "");
}

TEST_F(ServiceTest, TheUnitOfTheRecipeFollowsTheService) {
  ASSERT_THAT(RequirePrograms({"systemd-analyze"}), IsOk());
  const std::string document = ContentOf("docs/recipes.md");
  const std::string name = "vm1-loop.service";
  const std::string fence = "```ini unit=" + name + "\n";
  const size_t begin = document.find(fence);
  ASSERT_NE(begin, std::string::npos);
  const size_t end = document.find("```", begin + fence.size());
  std::ofstream(served_.directory().File(name))
      << document.substr(begin + fence.size(), end - begin - fence.size());
  std::ofstream(served_.directory().File("pcachefs@.service")) << Unit();
  const Outcome outcome =
      RunCommand({"systemd-analyze", "--man=no", "verify",
                  served_.directory().File(name)});
  EXPECT_THAT(outcome, Succeeds());
  EXPECT_EQ(outcome.err, "");
}

TEST_F(ServiceTest, TheExampleConfigIsValid) {
  EXPECT_THAT(Ctl("check-config", std::string(kDist) + "example.conf"),
              Succeeds());
}

}  // namespace
}  // namespace pcachefs
