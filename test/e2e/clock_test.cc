// The wall clock jumps by a day, back and forth, under a daemon: intervals and
// deadlines are of another clock, so nothing waits for a day, nothing gives up,
// and no age is told that is none.

#include "absl/time/clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::Ge;
using testing::Le;

constexpr int kDay = 24 * 3600;

class ClockTest : public testing::Test {
 protected:
  void SetUp() override {
    char library[PATH_MAX];
    ASSERT_NE(realpath("test/e2e/testing/libjumping_clock.so", library),
              nullptr);
    served_.options().prefix = {"env", absl::StrCat("LD_PRELOAD=", library),
                                absl::StrCat("JUMPING_CLOCK=", offset_)};
    SetClock(0);
  }

  void SetClock(int seconds) {
    const std::string next = offset_ + ".next";
    std::ofstream(next) << seconds;
    ASSERT_EQ(rename(next.c_str(), offset_.c_str()), 0);
  }

  bool WaitUntilClean() {
    return WaitUntil(absl::Minutes(1), [&] {
      const auto status = served_.ImageStatus();
      return status.ok() && status->at("dirty_bytes") == 0;
    });
  }

  ServedCache served_{{.backing_size = 64 * kMiB, .cache_size = "32M"}};
  const std::string offset_ = served_.directory().File("clock");
};

TEST_F(ClockTest, BackgroundWorkGoesOnAndAgesAreRight) {
  ASSERT_THAT(served_.Start(), IsOk());
  Buffer block(kBlockSize);

  for (const int offset : {-kDay, kDay, 0}) {
    SCOPED_TRACE(offset);
    File image(served_.image(), O_RDWR | O_DIRECT);
    // Nobody has anything to do, so all wait when it jumps.
    absl::SleepFor(absl::Milliseconds(300));
    ASSERT_NO_FATAL_FAILURE(SetClock(offset));
    FillPattern(block.span(), 1, 0);
    ASSERT_EQ(image.Write(0, block.span()), kBlock);
    ASSERT_TRUE(WaitUntilClean()) << "committed by age and written back";
    ASSERT_EQ(image.Write(0, block.span()), kBlock);
    const auto status = served_.Status();
    ASSERT_THAT(status, IsOk());
    EXPECT_THAT(status->at("images")[0].value("oldest_dirty_seconds", -1.0),
                testing::AllOf(Ge(0), Le(3600)));
    EXPECT_THAT(status->at("server").value("uptime_seconds", -1.0),
                testing::AllOf(Ge(0), Le(3600)));
  }
  // Writers that are slowed down and wait for space, while it jumps.
  std::atomic<bool> done = false;
  std::thread jumps([&] {
    for (int i = 0; !done; ++i) {
      SetClock(i % 2 == 0 ? kDay : -kDay);
      absl::SleepFor(absl::Milliseconds(50));
    }
  });
  EXPECT_THAT(WritePattern(served_.image(), 2, 0, served_.size()), IsOk());
  done = true;
  jumps.join();
  EXPECT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(served_.Stop(), IsOk());
  EXPECT_THAT(CheckPattern(served_.backing(), 2, 0, served_.size()), IsOk());
}

TEST_F(ClockTest, NbdServersAreNotGivenUp) {
  ASSERT_THAT(RequirePrograms({"nbdkit"}), IsOk());
  ASSERT_THAT(WritePattern(served_.backing(), 1, 0, served_.size()), IsOk());
  const std::string socket = served_.directory().File("nbd");
  auto server = Process::Start({"nbdkit", "--foreground", "--unix", socket,
                                "--filter=delay", "file", served_.backing(),
                                "delay-read=20ms"});
  ASSERT_THAT(server, IsOk());
  ASSERT_TRUE(WaitUntil(absl::Minutes(1),
                        [&] { return access(socket.c_str(), F_OK) == 0; }));
  served_.options().backing_spec = absl::StrCat("nbd+unix:///?socket=", socket);
  served_.options().flags = {"--read_ahead=0"};
  ASSERT_THAT(served_.Start(), IsOk());

  Buffer block(kBlockSize);
  for (int i = 0; i < 40; ++i) {
    File image(served_.image(), O_RDONLY | O_DIRECT);
    const uint64_t offset = i * kMiB;
    std::thread jump([&] {
      absl::SleepFor(absl::Milliseconds(10));
      SetClock(i % 2 == 0 ? kDay : -kDay);
    });
    EXPECT_EQ(image.Read(offset, block.span()), kBlock);
    EXPECT_TRUE(HasPattern(block.span(), 1, offset));
    jump.join();
  }
  const auto status = served_.ImageStatus();
  ASSERT_THAT(status, IsOk());
  EXPECT_EQ(status->at("state"), "running");
  EXPECT_EQ(status->at("backing_read_errors"), 0);
  EXPECT_THAT(WritePattern(served_.image(), 2, 0, 8 * kMiB), IsOk());
  EXPECT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(served_.Stop(), IsOk());
}

}  // namespace
}  // namespace pcachefs
