#include "tools/service_manager.h"

#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/notify_socket.h"
#include "tools/service_reports.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;

TEST(ServiceManager, SaysWhatTheProtocolWants) {
  NotifySocket socket;
  const ServiceManager manager(socket.name(), absl::Seconds(1));
  EXPECT_TRUE(manager.is_present());
  manager.Status("two\nlines");
  EXPECT_EQ(socket.Next(), "STATUS=two; lines");
  manager.ExtendTimeout(absl::Seconds(30));
  EXPECT_EQ(socket.Next(), "EXTEND_TIMEOUT_USEC=30000000");
  manager.Ready();
  EXPECT_EQ(socket.Next(), absl::StrCat("READY=1\nMAINPID=", getpid()));
  manager.IsAlive();
  EXPECT_EQ(socket.Next(), "WATCHDOG=1");
  manager.Stopping();
  EXPECT_EQ(socket.Next(), "STOPPING=1");
}

TEST(ServiceManager, TakesItsEnvironmentAway) {
  NotifySocket socket;
  setenv("NOTIFY_SOCKET", socket.name().c_str(), 1);
  setenv("WATCHDOG_USEC", "2000000", 1);
  setenv("WATCHDOG_PID", absl::StrCat(getpid()).c_str(), 1);
  const ServiceManager manager = ServiceManager::FromEnvironment();
  EXPECT_EQ(manager.watchdog(), absl::Seconds(2));
  EXPECT_EQ(getenv("NOTIFY_SOCKET"), nullptr);
  EXPECT_EQ(getenv("WATCHDOG_USEC"), nullptr);
  EXPECT_EQ(getenv("WATCHDOG_PID"), nullptr);
  manager.IsAlive();
  EXPECT_EQ(socket.Next(), "WATCHDOG=1");
}

TEST(ServiceManager, AWatchdogForAnotherProcessIsNotOurs) {
  setenv("WATCHDOG_USEC", "2000000", 1);
  setenv("WATCHDOG_PID", "1", 1);
  EXPECT_EQ(ServiceManager::FromEnvironment().watchdog(),
            absl::InfiniteDuration());
  setenv("WATCHDOG_USEC", "soon", 1);
  EXPECT_EQ(ServiceManager::FromEnvironment().watchdog(),
            absl::InfiniteDuration());
}

TEST(ServiceManager, NobodyOrNonsenseIsSilence) {
  for (const std::string& name :
       {std::string(), std::string("vsock:2:1"), std::string("relative"),
        std::string(200, '/')}) {
    const ServiceManager manager(name, absl::Seconds(1));
    EXPECT_FALSE(manager.is_present()) << name;
    manager.Ready();
  }
  const ServiceManager nobody("/no/such/socket", absl::Seconds(1));
  nobody.Ready();
}

TEST(StartReports, AskForTimeWhileSomethingIsDone) {
  NotifySocket socket;
  const ServiceManager manager(socket.name(), absl::InfiniteDuration());
  const StartReports reports(manager, absl::Milliseconds(20));
  volatile uint64_t work = 0;
  std::string message;
  while (message.empty()) {
    for (int i = 0; i < 1000000; ++i) work = work + i;
    message = socket.Next(absl::Milliseconds(1));
  }
  EXPECT_EQ(message, "EXTEND_TIMEOUT_USEC=60000");
}

TEST(ServingReports, NoSignOfLifeFromWhatDoesNotAnswer) {
  NotifySocket socket;
  const ServiceManager manager(socket.name(), absl::Milliseconds(30));
  {
    // ENOTDIR is not the answer of a mount.
    const ServingReports reports(
        manager, "/dev/null", [] { return CacheStatus(); },
        absl::Milliseconds(10));
    for (int i = 0; i < 5; ++i) {
      EXPECT_THAT(socket.Next(), HasSubstr("STATUS=serving 0 images"));
    }
  }
  const ServingReports reports(
      manager, "/tmp", [] { return CacheStatus(); }, absl::Milliseconds(10));
  EXPECT_TRUE(socket.WaitFor("WATCHDOG=1"));
}

TEST(DescribeServing, NamesWhatIsNotAsItShouldBe) {
  CacheStatus status;
  status.images.resize(2);
  status.images[0].dirty_bytes = 1 << 20;
  status.images[1].name = "vm1";
  status.images[1].state = HealthState::kDegraded;
  status.images[1].state_reason = "backing: EIO";
  const std::string text = DescribeServing(status);
  EXPECT_THAT(text, HasSubstr("serving 2 images, 1M dirty"));
  EXPECT_THAT(text, HasSubstr("vm1 degraded: backing: EIO"));
}

}  // namespace
}  // namespace pcachefs
