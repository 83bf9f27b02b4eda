// Proves that devices work where the kernel refuses io_uring: this process
// forbids it to itself.

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "iobackend/open_device.h"
#include "test/iobackend/test_files.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr uint64_t kSize = 1 << 20;

bool ForbidUring() {
  sock_filter instructions[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {std::size(instructions), instructions};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

class WithoutUringTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(ForbidUring());
    MakeSparseFile(path_, kSize);
  }

  TestDirectory directory_;
  const std::string path_ = directory_.File("device");
};

TEST_F(WithoutUringTest, BackingDeviceBecomesSynchronous) {
  auto device = OpenBackingDevice(path_, {});
  ASSERT_THAT(device, IsOk());
  BackingRequest flush;
  flush.operation = BackingRequest::Operation::kFlush;

  EXPECT_THAT(SubmitAndWait(**device, std::move(flush)), IsOk());
}

TEST_F(WithoutUringTest, UringOnDemandIsUnavailableAndLeavesNoLock) {
  EXPECT_THAT(OpenBackingDevice(path_, {.executor = BackingExecutor::kUring}),
              StatusIs(absl::StatusCode::kUnavailable,
                       ::testing::HasSubstr("io_uring")));
  EXPECT_THAT(OpenBackingDevice(path_, {}), IsOk());
}

TEST_F(WithoutUringTest, CacheDeviceReadsOnAThread) {
  auto opened = OpenCacheDevice(path_, {});
  ASSERT_THAT(opened, IsOk());
  const auto bytes = Pattern(4096, 1);
  ASSERT_THAT(opened->device->Write(MediaOffset(0), bytes), IsOk());
  std::vector<std::byte> out(4096);
  absl::Notification done;

  opened->device->ReadAsync(MediaOffset(0), out, [&](absl::Status status) {
    EXPECT_THAT(status, IsOk());
    done.Notify();
  });

  done.WaitForNotification();
  EXPECT_EQ(out, bytes);
}

}  // namespace
}  // namespace pcachefs
