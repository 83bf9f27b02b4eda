#include "iobackend/device_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;

class DeviceLockTest : public testing::Test {
 protected:
  DeviceLockTest() : fd_(open(path_.c_str(), O_RDWR | O_CREAT, 0600)) {}
  ~DeviceLockTest() override {
    close(fd_);
    unlink(path_.c_str());
    if (holder_ > 0) {
      kill(holder_, SIGKILL);
      waitpid(holder_, nullptr, 0);
    }
  }

  // Another process of that name has the lock, until it is let go: a shared one,
  // as udev's.
  void HoldAs(const char* name) {
    int locked[2];
    ASSERT_EQ(pipe(locked), 0);
    ASSERT_EQ(pipe(let_go_), 0);
    holder_ = fork();
    if (holder_ == 0) {
      prctl(PR_SET_NAME, name);
      const int fd = open(path_.c_str(), O_RDONLY);
      flock(fd, LOCK_SH);
      close(locked[0]);
      close(locked[1]);
      close(let_go_[1]);
      char none;
      if (read(let_go_[0], &none, 1) == 0) usleep(300 * 1000);
      _exit(0);
    }
    close(let_go_[0]);
    close(locked[1]);
    char none;
    ASSERT_EQ(read(locked[0], &none, 1), 0);  // its end is closed: it has it
    close(locked[0]);
  }
  void LetGoSoon() { close(let_go_[1]); }

  const std::string path_ = testing::TempDir() + "/device_lock_test.device";
  const int fd_;
  pid_t holder_ = 0;
  int let_go_[2] = {-1, -1};
};

TEST_F(DeviceLockTest, WaitsForUdev) {
  ASSERT_NO_FATAL_FAILURE(HoldAs("(udev-worker)"));
  LetGoSoon();
  EXPECT_THAT(LockDevice(fd_, LockKind::kExclusive, "d"), IsOk());
}

TEST_F(DeviceLockTest, AnyOtherHolderIsNamedAtOnce) {
  ASSERT_NO_FATAL_FAILURE(HoldAs("other"));
  EXPECT_THAT(LockDevice(fd_, LockKind::kExclusive, "d"),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("d: in use by process " +
                                 std::to_string(holder_))));
  LetGoSoon();
}

}  // namespace
}  // namespace pcachefs
