// Proves how cache devices are created, chosen, found and locked.

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "iobackend/open_device.h"
#include "test/iobackend/test_files.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kSize = 1 << 20;

// The parameter: the directory, on a disk or on tmpfs.
class OpenCacheDeviceTest : public ::testing::TestWithParam<std::string> {
 protected:
  bool on_tmpfs() const { return GetParam() == kTmpfs; }

  TestDirectory directory_{GetParam() == kTmpfs ? kTmpfs
                                                : ::testing::TempDir()};
  const std::string path_ = directory_.File("cache");
};

INSTANTIATE_TEST_SUITE_P(Directory, OpenCacheDeviceTest,
                         ::testing::Values("disk", kTmpfs));

TEST_P(OpenCacheDeviceTest, MissingFileIsCreatedAllocatedAndPrivate) {
  auto opened = OpenCacheDevice(path_, {.create_size = kSize});
  ASSERT_THAT(opened, IsOk());

  EXPECT_TRUE(opened->created);
  EXPECT_EQ(opened->device->size(), kSize);
  EXPECT_EQ(opened->device->name(), path_);
  EXPECT_EQ(opened->device->is_volatile(), on_tmpfs());
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  EXPECT_GE(status.st_blocks * 512u, kSize);
  std::vector<std::byte> out(kSize);
  ASSERT_THAT(opened->device->Read(MediaOffset(0), out), IsOk());
  EXPECT_TRUE(IsZero(out));
}

TEST_P(OpenCacheDeviceTest, ExistingFileIsKept) {
  const auto bytes = Pattern(1000, 1);
  {
    auto opened = OpenCacheDevice(path_, {.create_size = kSize});
    ASSERT_THAT(opened, IsOk());
    ASSERT_THAT(opened->device->Write(MediaOffset(0), bytes), IsOk());
  }

  auto opened = OpenCacheDevice(path_, {.create_size = 2 * kSize});

  ASSERT_THAT(opened, IsOk());
  EXPECT_FALSE(opened->created);
  EXPECT_EQ(opened->device->size(), kSize);
  std::vector<std::byte> out(1000);
  ASSERT_THAT(opened->device->Read(MediaOffset(0), out), IsOk());
  EXPECT_EQ(out, bytes);
}

TEST_P(OpenCacheDeviceTest, NoFileIsLeftWhenThereIsNoSpace) {
  EXPECT_THAT(OpenCacheDevice(path_, {.create_size = uint64_t{1} << 61}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("wanted 2305843009213693952")));

  EXPECT_NE(access(path_.c_str(), F_OK), 0);
}

TEST_P(OpenCacheDeviceTest, NoFileIsLeftWhenAllocationFails) {
  ExpectSuccessInChild([this] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {kSize / 2, kSize / 2};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    auto opened = OpenCacheDevice(path_, {.create_size = kSize});
    if (!absl::IsResourceExhausted(opened.status())) return 2;
    return access(path_.c_str(), F_OK) == 0 ? 3 : 0;
  });
}

TEST_P(OpenCacheDeviceTest, WhatIsNotThereIsNotFound) {
  EXPECT_THAT(OpenCacheDevice(path_, {}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(path_)));
  EXPECT_THAT(
      OpenCacheDevice(directory_.File("no/cache"), {.create_size = kSize}),
      StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(OpenCacheDeviceTest, WhatIsNoDeviceIsRefused) {
  ASSERT_EQ(mkfifo(directory_.File("pipe").c_str(), 0600), 0);
  constexpr auto kFailedPrecondition = absl::StatusCode::kFailedPrecondition;

  EXPECT_THAT(OpenCacheDevice(directory_.path(), {}),
              StatusIs(kFailedPrecondition));
  EXPECT_THAT(OpenCacheDevice(directory_.File("pipe"), {}),
              StatusIs(kFailedPrecondition));
  EXPECT_THAT(
      OpenCacheDevice("/dev/null", {}),
      StatusIs(kFailedPrecondition, HasSubstr("not persistent memory")));
}

TEST_P(OpenCacheDeviceTest, EmptyFileIsRefused) {
  MakeSparseFile(path_, 0);

  EXPECT_THAT(OpenCacheDevice(path_, {}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(OpenCacheDeviceTest, SymbolicLinksToFilesAreNotFollowed) {
  const std::string link = directory_.File("link");
  ASSERT_EQ(symlink(path_.c_str(), link.c_str()), 0);

  EXPECT_FALSE(OpenCacheDevice(link, {.create_size = kSize}).ok());
  EXPECT_NE(access(path_.c_str(), F_OK), 0) << "created through the link";

  MakeSparseFile(path_, kSize);
  EXPECT_THAT(OpenCacheDevice(link, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("symbolic link")));
}

TEST_P(OpenCacheDeviceTest, SecondOpenInTheProcessIsRefused) {
  auto first = OpenCacheDevice(path_, {.create_size = kSize});
  ASSERT_THAT(first, IsOk());

  EXPECT_THAT(OpenCacheDevice(path_, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("in use already by this process")));
  EXPECT_THAT(OpenCacheDevice(path_, {.read_only = true}),
              StatusIs(absl::StatusCode::kFailedPrecondition));

  first->device.reset();
  EXPECT_THAT(OpenCacheDevice(path_, {}), IsOk());
}

TEST_P(OpenCacheDeviceTest, LockIsHeldAgainstOtherProcessesAndNamesTheHolder) {
  MakeSparseFile(path_, kSize);
  int ready[2], end[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(end), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto opened = OpenCacheDevice(path_, {});
    char byte = opened.ok();
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    close(end[1]);
    _exit(read(end[0], &byte, 1) == 0 ? 0 : 1);
  }
  char is_open = 0;
  ASSERT_EQ(read(ready[0], &is_open, 1), 1);
  ASSERT_TRUE(is_open);

  EXPECT_THAT(OpenCacheDevice(path_, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("process " + std::to_string(child))));

  // Its death frees the device.
  close(end[1]);
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_THAT(OpenCacheDevice(path_, {}), IsOk());
}

TEST_P(OpenCacheDeviceTest, SeveralMayLookButNotServe) {
  MakeSparseFile(path_, kSize);

  auto first = OpenCacheDevice(path_, {.read_only = true});
  auto second = OpenCacheDevice(path_, {.read_only = true});

  EXPECT_THAT(first, IsOk());
  EXPECT_THAT(second, IsOk());
  EXPECT_THAT(OpenCacheDevice(path_, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace pcachefs
