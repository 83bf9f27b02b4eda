// Proves how backing devices are found, refused, locked and told apart, and
// what failures of the system become.

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <string>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "iobackend/device_lock.h"
#include "iobackend/open_device.h"
#include "test/iobackend/test_files.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Operation = BackingRequest::Operation;

constexpr uint64_t kSize = 1 << 20;
constexpr auto kFailedPrecondition = absl::StatusCode::kFailedPrecondition;

class OpenBackingDeviceTest : public ::testing::Test {
 protected:
  void SetUp() override { MakeSparseFile(path_, kSize); }

  TestDirectory directory_;
  const std::string path_ = directory_.File("backing");
};

absl::Status WriteTo(BackingDevice& device, uint64_t offset,
                     std::span<std::byte> bytes) {
  BackingRequest request;
  request.operation = Operation::kWrite;
  request.offset = offset;
  request.length = bytes.size();
  request.buffers = {bytes};
  return SubmitAndWait(device, std::move(request));
}

TEST_F(OpenBackingDeviceTest, EveryExecutorOpens) {
  for (const auto executor : {BackingExecutor::kAuto, BackingExecutor::kUring,
                              BackingExecutor::kSynchronous}) {
    auto device = OpenBackingDevice(path_, {.executor = executor});
    ASSERT_THAT(device, IsOk());
    EXPECT_EQ((*device)->size(), kSize);
    auto bytes = Pattern(512, 1);
    EXPECT_THAT(WriteTo(**device, 0, bytes), IsOk());
  }
}

TEST_F(OpenBackingDeviceTest, RelativePathBecomesAbsolute) {
  ASSERT_EQ(chdir(directory_.path().c_str()), 0);

  auto device = OpenBackingDevice("backing", {});

  ASSERT_THAT(device, IsOk());
  EXPECT_EQ((*device)->spec(), path_);
}

TEST_F(OpenBackingDeviceTest, WrongSizesAreRefused) {
  for (const uint64_t size : {0, 1, 511, 513, 4097}) {
    ASSERT_EQ(truncate(path_.c_str(), size), 0);
    EXPECT_THAT(OpenBackingDevice(path_, {}),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(std::to_string(size) + " bytes")));
  }
}

TEST_F(OpenBackingDeviceTest, WhatIsNoDeviceIsRefused) {
  ASSERT_EQ(mkfifo(directory_.File("pipe").c_str(), 0600), 0);
  for (const std::string& path :
       {directory_.path(), directory_.File("pipe"), std::string("/dev/null")}) {
    EXPECT_THAT(OpenBackingDevice(path, {}), StatusIs(kFailedPrecondition));
    EXPECT_THAT(IdentifyBackingDevice(path), StatusIs(kFailedPrecondition));
  }
  EXPECT_THAT(OpenBackingDevice(directory_.File("none"), {}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
  EXPECT_THAT(IdentifyBackingDevice(directory_.File("none")),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(OpenBackingDeviceTest, EveryPathToAnOpenFileIsRefused) {
  const std::string hard = directory_.File("hard");
  const std::string soft = directory_.File("soft");
  ASSERT_EQ(link(path_.c_str(), hard.c_str()), 0);
  ASSERT_EQ(symlink(path_.c_str(), soft.c_str()), 0);
  auto device = OpenBackingDevice(path_, {});
  ASSERT_THAT(device, IsOk());

  for (const std::string& path : {path_, hard, soft}) {
    EXPECT_THAT(
        OpenBackingDevice(path, {}),
        StatusIs(kFailedPrecondition,
                 AllOf(HasSubstr(path), HasSubstr((*device)->identity().text),
                       HasSubstr("this process"))));
    // To look who it is needs no lock.
    auto identity = IdentifyBackingDevice(path);
    ASSERT_THAT(identity, IsOk());
    EXPECT_EQ(*identity, (*device)->identity());
  }
  EXPECT_THAT(OpenBackingDevice(path_, {.read_only = true}),
              StatusIs(kFailedPrecondition));
}

TEST_F(OpenBackingDeviceTest, SeveralMayReadButNotWrite) {
  auto first = OpenBackingDevice(path_, {.read_only = true});
  auto second = OpenBackingDevice(path_, {.read_only = true});

  EXPECT_THAT(first, IsOk());
  EXPECT_THAT(second, IsOk());
  EXPECT_THAT(OpenBackingDevice(path_, {}), StatusIs(kFailedPrecondition));
}

TEST_F(OpenBackingDeviceTest, LockIsHeldAgainstOtherProcesses) {
  auto device = OpenBackingDevice(path_, {});
  ASSERT_THAT(device, IsOk());
  const std::string holder = "process " + std::to_string(getpid());

  ExpectSuccessInChild([&] {
    const absl::Status status =
        OpenBackingDevice(path_, {.executor = BackingExecutor::kSynchronous})
            .status();
    if (!absl::IsFailedPrecondition(status)) return 1;
    return std::string(status.message()).find(holder) != std::string::npos ? 0
                                                                           : 2;
  });
}

// As io_uring holds a file until its requests have ended, also when the process
// that made them is long dead.
TEST_F(OpenBackingDeviceTest, LateRequestsOfADeadProcessAreWaitedFor) {
  const int late = open(path_.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(late, 0);
  ASSERT_THAT(LockRequests(late, LockKind::kExclusive, "late"), IsOk());
  std::atomic<bool> have_ended = false;
  std::thread end([&] {
    absl::SleepFor(absl::Milliseconds(200));
    have_ended = true;
    close(late);
  });

  const auto device = OpenBackingDevice(path_, {});

  EXPECT_THAT(device, IsOk());
  // Without direct access no request needs a description of its own.
  const int direct = open(path_.c_str(), O_RDWR | O_CLOEXEC | O_DIRECT);
  EXPECT_TRUE(have_ended || direct < 0);
  if (direct >= 0) close(direct);
  end.join();
}

TEST_F(OpenBackingDeviceTest, CopiesAreOtherDevices) {
  MakeSparseFile(directory_.File("copy"), kSize);

  auto one = IdentifyBackingDevice(path_);
  auto other = IdentifyBackingDevice(directory_.File("copy"));

  ASSERT_THAT(one, IsOk());
  ASSERT_THAT(other, IsOk());
  EXPECT_NE(one->text, other->text);
}

// Root may write what nobody may, unless it gives that up.
bool DropOverridingPermissions() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  return syscall(SYS_capset, &header, data) == 0;
}

TEST_F(OpenBackingDeviceTest, FileThatCannotBeWrittenNamesTheWayOut) {
  ASSERT_EQ(chmod(path_.c_str(), 0400), 0);
  ExpectSuccessInChild([this] {
    if (!DropOverridingPermissions()) return 1;
    BackingDeviceOptions options;
    options.executor = BackingExecutor::kSynchronous;
    const absl::Status status = OpenBackingDevice(path_, options).status();
    if (!absl::IsPermissionDenied(status)) return 2;
    if (std::string(status.message()).find("attach it read-only") ==
        std::string::npos) {
      return 3;
    }
    options.read_only = true;
    return OpenBackingDevice(path_, options).ok() ? 0 : 4;
  });
}

TEST_F(OpenBackingDeviceTest, FullDeviceIsExhausted) {
  for (const auto executor :
       {BackingExecutor::kUring, BackingExecutor::kSynchronous}) {
    ExpectSuccessInChild([&] {
      if (!MountSmallTmpfs(directory_.path(), 64 << 10)) return 0;
      MakeSparseFile(path_, kSize);
      auto device = OpenBackingDevice(path_, {.executor = executor});
      if (!device.ok()) return 1;
      auto bytes = Pattern(kSize, 1);
      if (!absl::IsResourceExhausted(WriteTo(**device, 0, bytes))) return 2;
      // What it had room for before can still be written.
      return WriteTo(**device, 0, std::span(bytes).first(4096)).ok() ? 0 : 3;
    });
  }
}

TEST_F(OpenBackingDeviceTest, FailureNamesOperationPlaceAndCause) {
  ExpectSuccessInChild([this] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {4096, 4096};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    auto device =
        OpenBackingDevice(path_, {.executor = BackingExecutor::kSynchronous});
    if (!device.ok()) return 2;
    auto bytes = Pattern(4096, 1);
    const absl::Status status = WriteTo(**device, 8192, bytes);
    if (!absl::IsUnavailable(status)) return 3;
    const std::string wanted =
        path_ + ": write of 4096 bytes at offset 8192: File too large";
    return status.message() == wanted ? 0 : 4;
  });
}

}  // namespace
}  // namespace pcachefs
