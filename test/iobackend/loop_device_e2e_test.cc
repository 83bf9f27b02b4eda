// Proves on real block devices (loop devices over files of the test) what no
// file can show: exclusive claims, identity, 4096-byte sectors, discard, and
// that a flush which the device fails is reported. Needs root.

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "iobackend/open_device.h"
#include "meta/units.h"
#include "test/iobackend/test_files.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;
using Operation = BackingRequest::Operation;

constexpr uint64_t kSize = 8 * kMiB;

// Freed by the kernel when its last user closes it, also if the test dies.
class LoopDevice {
 public:
  LoopDevice(const std::string& file, uint32_t sector_size) {
    const FileDescriptor control = OpenFile("/dev/loop-control", O_RDWR);
    const FileDescriptor backing = OpenFile(file, O_RDWR);
    loop_config config = {};
    config.fd = backing.get();
    config.block_size = sector_size;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    // Another process may take the number before us.
    for (int attempt = 0; attempt < 20; ++attempt) {
      const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
      if (number < 0) return;
      path_ = "/dev/loop" + std::to_string(number);
      holder_ = OpenFile(path_, O_RDWR);
      if (ioctl(holder_.get(), LOOP_CONFIGURE, &config) == 0) return;
    }
    path_.clear();
  }

  const std::string& path() const { return path_; }
  int fd() const { return holder_.get(); }

 private:
  std::string path_;
  FileDescriptor holder_;
};

class LoopDeviceTest : public ::testing::TestWithParam<uint32_t> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) FAIL() << "needs root";
    file_ = MakeSparseFile(path_, kSize);
    loop_ = std::make_unique<LoopDevice>(path_, GetParam());
    if (loop_->path().empty()) FAIL() << "needs a loop device";
  }

  TestDirectory directory_;
  const std::string path_ = directory_.File("disk");
  FileDescriptor file_;
  std::unique_ptr<LoopDevice> loop_;
};

INSTANTIATE_TEST_SUITE_P(SectorSize, LoopDeviceTest,
                         ::testing::Values(512, 4096));

absl::Status Do(BackingDevice& device, Operation operation, uint64_t offset,
                uint64_t length, BackingRequest::Buffers buffers = {}) {
  BackingRequest request;
  request.operation = operation;
  request.offset = offset;
  request.length = length;
  request.buffers = std::move(buffers);
  return SubmitAndWait(device, std::move(request));
}

TEST_P(LoopDeviceTest, BackingDeviceIsIdentifiedByItsFile) {
  auto device = OpenBackingDevice(loop_->path(), {});
  ASSERT_THAT(device, IsOk());

  EXPECT_EQ((*device)->identity().kind, BackingKind::kBlockDevice);
  EXPECT_EQ((*device)->identity().text, "loop=" + path_);
  EXPECT_EQ((*device)->size(), kSize);
  EXPECT_EQ((*device)->block_size(), GetParam());
}

TEST_P(LoopDeviceTest, DeviceIsClaimedAgainstEveryOtherUser) {
  auto device = OpenBackingDevice(loop_->path(), {});
  ASSERT_THAT(device, IsOk());
  constexpr auto kFailedPrecondition = absl::StatusCode::kFailedPrecondition;

  EXPECT_THAT(OpenBackingDevice(loop_->path(), {}),
              StatusIs(kFailedPrecondition, HasSubstr("loop=" + path_)));
  EXPECT_THAT(OpenCacheDevice(loop_->path(), {}),
              StatusIs(kFailedPrecondition, HasSubstr("this process")));
  EXPECT_THAT(OpenCacheDevice(loop_->path(), {.read_only = true}),
              StatusIs(kFailedPrecondition));
  // By another node of the same device, which flock() does not see.
  struct stat status;
  ASSERT_EQ(fstat(loop_->fd(), &status), 0);
  const std::string node = directory_.File("node");
  if (mknod(node.c_str(), S_IFBLK | 0600, status.st_rdev) == 0) {
    EXPECT_THAT(OpenBackingDevice(node, {}), StatusIs(kFailedPrecondition));
  }
}

TEST_P(LoopDeviceTest, CacheDeviceIsOpenedThroughALink) {
  const std::string link = directory_.File("by-id");
  ASSERT_EQ(symlink(loop_->path().c_str(), link.c_str()), 0);

  auto opened = OpenCacheDevice(link, {.create_size = kMiB});

  ASSERT_THAT(opened, IsOk());
  EXPECT_FALSE(opened->created);
  EXPECT_EQ(opened->device->size(), kSize);
  const auto bytes = Pattern(1000, 1);
  ASSERT_THAT(opened->device->Write(MediaOffset(100), bytes), IsOk());
  ASSERT_THAT(opened->device->Persist(), IsOk());
  EXPECT_TRUE(SameBytes(
      [&] {
        std::vector<std::byte> out(1000);
        EXPECT_THAT(ReadFully(path_, file_.get(), 100, out), IsOk());
        return out;
      }(),
      bytes));
}

TEST_P(LoopDeviceTest, AnySectorsWillDo) {
  auto device = OpenBackingDevice(loop_->path(), {});
  ASSERT_THAT(device, IsOk());
  std::vector<std::byte> model(kSize), out(kSize);
  uint64_t seed = 0;
  // Through the page cache and around it in turns, on shared pages.
  for (const uint64_t offset : {0, 4096, 512, 8192, 1024, 4096, 7680}) {
    for (const size_t length : {512, 4096, 8192, 1536, 64 << 10}) {
      SCOPED_TRACE(testing::Message() << offset << ' ' << length);
      TestBuffer bytes(length);
      FillPattern(bytes.bytes(), ++seed);
      std::copy_n(bytes.bytes().begin(), length, model.begin() + offset);
      ASSERT_THAT(
          Do(**device, Operation::kWrite, offset, length, {bytes.bytes()}),
          IsOk());
      ASSERT_THAT(Do(**device, Operation::kRead, 0, kSize, {out}), IsOk());
      ASSERT_TRUE(SameBytes(out, model));
    }
  }
  ASSERT_THAT(Do(**device, Operation::kFlush, 0, 0), IsOk());
  ASSERT_THAT(ReadFully(path_, file_.get(), 0, out), IsOk());
  EXPECT_TRUE(SameBytes(out, model));
}

TEST_P(LoopDeviceTest, DiscardAndZeroReadAsZeroesAndDiscardGivesSpaceBack) {
  for (const Operation operation : {Operation::kZero, Operation::kDiscard}) {
    auto device = OpenBackingDevice(loop_->path(), {});
    ASSERT_THAT(device, IsOk());
    auto model = Pattern(kSize, 1);
    ASSERT_THAT(Do(**device, Operation::kWrite, 0, kSize, {model}), IsOk());
    ASSERT_THAT(Do(**device, Operation::kFlush, 0, 0), IsOk());
    constexpr uint64_t kOffset = kMiB + 512;
    constexpr uint64_t kLength = 3 * kMiB + 1024;

    ASSERT_THAT(Do(**device, operation, kOffset, kLength), IsOk());
    ASSERT_THAT(Do(**device, Operation::kFlush, 0, 0), IsOk());

    std::fill_n(model.begin() + kOffset, kLength, std::byte{0});
    std::vector<std::byte> out(kSize);
    ASSERT_THAT(Do(**device, Operation::kRead, 0, kSize, {out}), IsOk());
    EXPECT_TRUE(SameBytes(out, model));
    ASSERT_THAT(ReadFully(path_, file_.get(), 0, out), IsOk());
    EXPECT_TRUE(SameBytes(out, model));
    struct stat status;
    ASSERT_EQ(fstat(file_.get(), &status), 0);
    if (operation == Operation::kDiscard) {
      EXPECT_LE(status.st_blocks * 512u, kSize - 3 * kMiB + 64 * kKiB);
    }
  }
}

TEST_P(LoopDeviceTest, GrowthIsSeenByRefresh) {
  auto device = OpenBackingDevice(loop_->path(), {});
  ASSERT_THAT(device, IsOk());
  ASSERT_EQ(ftruncate(file_.get(), 2 * kSize), 0);
  ASSERT_EQ(ioctl(loop_->fd(), LOOP_SET_CAPACITY), 0);

  ASSERT_THAT((*device)->Refresh(), IsOk());

  EXPECT_EQ((*device)->size(), 2 * kSize);
}

// A loop device whose file cannot take what the page cache accepted.
class FullLoopDeviceTest : public LoopDeviceTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0 || !MountSmallTmpfs(directory_.path(), kMiB)) {
      FAIL() << "needs root";
    }
    LoopDeviceTest::SetUp();
  }

  void TearDown() override {
    loop_.reset();
    file_ = FileDescriptor();
    umount2(directory_.path().c_str(), MNT_DETACH);
  }
};

INSTANTIATE_TEST_SUITE_P(SectorSize, FullLoopDeviceTest,
                         ::testing::Values(512, 4096));

TEST_P(FullLoopDeviceTest, FailedPersistOfTheCacheIsFinal) {
  auto opened = OpenCacheDevice(loop_->path(), {});
  ASSERT_THAT(opened, IsOk());
  CacheDevice& device = *opened->device;
  constexpr auto kUnavailable = absl::StatusCode::kUnavailable;
  ASSERT_THAT(device.Write(MediaOffset(0), Pattern(kSize / 2, 1)), IsOk());

  EXPECT_THAT(device.Persist(), StatusIs(kUnavailable));

  EXPECT_THAT(device.Persist(), StatusIs(kUnavailable));
  EXPECT_THAT(device.Write(MediaOffset(0), Pattern(512, 1)),
              StatusIs(kUnavailable));
}

TEST_P(FullLoopDeviceTest, FailedFlushIsReported) {
  for (const auto executor :
       {BackingExecutor::kUring, BackingExecutor::kSynchronous}) {
    auto device = OpenBackingDevice(loop_->path(),
                                    {.executor = executor, .direct = false});
    ASSERT_THAT(device, IsOk());
    auto bytes = Pattern(kSize / 2, 1);
    ASSERT_THAT(Do(**device, Operation::kWrite, 0, bytes.size(), {bytes}),
                IsOk());

    const absl::Status status = Do(**device, Operation::kFlush, 0, 0);

    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(loop_->path() + ": flush"));
  }
}

TEST_P(FullLoopDeviceTest, FailedDirectWriteIsReported) {
  auto device = OpenBackingDevice(loop_->path(), {});
  ASSERT_THAT(device, IsOk());
  TestBuffer bytes(kSize / 2);

  EXPECT_FALSE(
      Do(**device, Operation::kWrite, 0, kSize / 2, {bytes.bytes()}).ok());
}

}  // namespace
}  // namespace pcachefs
