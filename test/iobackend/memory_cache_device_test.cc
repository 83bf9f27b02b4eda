// Proves the promises of mapped cache devices on files of tmpfs: contents,
// failing memory, growth, and that locked memory does not swallow the device.

#include "iobackend/memory_cache_device.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/iobackend/test_files.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;
using Media = MemoryCacheDevice::Media;

constexpr uint64_t kPageSize = 4096;
constexpr uint64_t kSize = 64 * kPageSize;

class MemoryCacheDeviceTest : public ::testing::TestWithParam<Media> {
 protected:
  void Open(bool read_only = false) {
    auto device = MemoryCacheDevice::Create(
        path_, OpenFile(path_, read_only ? O_RDONLY : O_RDWR),
        {.media = GetParam(), .read_only = read_only, .size = kSize});
    ASSERT_THAT(device, IsOk());
    device_ = *std::move(device);
  }

  void SetUp() override {
    file_ = MakeSparseFile(path_, kSize);
    Open();
  }

  absl::Status Read(uint64_t offset, size_t length) {
    std::vector<std::byte> out(length);
    return device_->Read(MediaOffset(offset), out);
  }

  absl::Status Write(uint64_t offset, size_t length) {
    return device_->Write(MediaOffset(offset), Pattern(length, offset));
  }

  TestDirectory directory_{kTmpfs};
  const std::string path_ = directory_.File("cache");
  FileDescriptor file_;
  std::unique_ptr<MemoryCacheDevice> device_;
};

INSTANTIATE_TEST_SUITE_P(Media, MemoryCacheDeviceTest,
                         ::testing::Values(Media::kTmpfs,
                                           Media::kDaxWithoutSync));

uint64_t PageFaults() {
  rusage usage = {};
  EXPECT_EQ(getrusage(RUSAGE_THREAD, &usage), 0);
  return usage.ru_minflt;
}

TEST(MemoryCacheDevicePrefault, AStoreDoesNotFaultAtEachPageAfterARestart) {
  constexpr uint64_t kLarge = 8 << 20;
  const TestDirectory directory(kTmpfs);
  const std::string path = directory.File("cache");
  MakeSparseFile(path, kLarge);
  const std::vector<std::byte> bytes = Pattern(kPageSize, 1);
  for (const bool is_new : {true, false}) {
    auto device = MemoryCacheDevice::Create(
        path, OpenFile(path, O_RDWR), {.is_new = is_new, .size = kLarge});
    ASSERT_THAT(device, IsOk());
    const uint64_t before = PageFaults();
    for (uint64_t at = 0; at < kLarge; at += kPageSize) {
      ASSERT_THAT((*device)->Write(MediaOffset(at), bytes), IsOk());
    }
    // 2,048 pages; the kernel counts each that it had to make.
    if (!is_new) {
      EXPECT_LT(PageFaults() - before, 512);
    }
    std::vector<std::byte> out(kPageSize);
    ASSERT_THAT((*device)->Read(MediaOffset(kLarge - kPageSize), out), IsOk());
    EXPECT_EQ(out, bytes);
  }
}

TEST_P(MemoryCacheDeviceTest, EveryReaderSeesWhatWasWritten) {
  const auto bytes = Pattern(3 * kPageSize + 77, 1);

  ASSERT_THAT(device_->Write(MediaOffset(1001), bytes), IsOk());
  ASSERT_THAT(device_->Persist(), IsOk());

  std::vector<std::byte> out(bytes.size());
  EXPECT_THAT(device_->Read(MediaOffset(1001), out), IsOk());
  EXPECT_EQ(out, bytes);
  out.assign(out.size(), std::byte{0});
  auto ready = device_->TryRead(MediaOffset(1001), out);
  ASSERT_THAT(ready, IsOk());
  EXPECT_TRUE(*ready);
  EXPECT_EQ(out, bytes);
  EXPECT_EQ(
      Copy({device_->View(MediaOffset(1001), bytes.size()), bytes.size()}),
      bytes);
  // Not of this mapping alone: it outlives the process.
  out.assign(out.size(), std::byte{0});
  EXPECT_THAT(ReadFully(path_, file_.get(), 1001, out), IsOk());
  EXPECT_EQ(out, bytes);
}

TEST_P(MemoryCacheDeviceTest, ReadAsyncIsDoneAtOnce) {
  ASSERT_THAT(Write(0, 100), IsOk());
  std::vector<std::byte> out(100);
  absl::Status status = absl::UnknownError("not called");

  device_->ReadAsync(MediaOffset(0), out,
                     [&](absl::Status result) { status = result; });

  EXPECT_THAT(status, IsOk());
  EXPECT_EQ(out, Pattern(100, 0));
}

TEST_P(MemoryCacheDeviceTest, TellsWhatItIs) {
  EXPECT_EQ(device_->size(), kSize);
  EXPECT_EQ(device_->name(), path_);
  EXPECT_TRUE(device_->persist_is_cheap());
  EXPECT_EQ(device_->is_volatile(), GetParam() == Media::kTmpfs);
}

TEST_P(MemoryCacheDeviceTest, RangeBeyondTheEndIsRefused) {
  EXPECT_THAT(Read(kSize - 1, 1), IsOk());
  EXPECT_THAT(Read(kSize, 0), IsOk());
  EXPECT_THAT(Read(kSize - 1, 2), StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(Read(UINT64_MAX, 2), StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(Write(kSize - 1, 2), StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_EQ(device_->View(MediaOffset(kSize - 1), 2), nullptr);
}

TEST_P(MemoryCacheDeviceTest, ReadOfFailedMemoryNamesThePlace) {
  ASSERT_EQ(ftruncate(file_.get(), 2 * kPageSize), 0);

  EXPECT_THAT(Read(0, 4 * kPageSize),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("failed at offset 8192")));

  // Lasting there, without effect elsewhere.
  EXPECT_THAT(Read(3 * kPageSize, 1), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Read(0, 2 * kPageSize), IsOk());
  EXPECT_THAT(Write(0, 2 * kPageSize), IsOk());
  EXPECT_THAT(device_->Persist(), IsOk());
}

TEST_P(MemoryCacheDeviceTest, WriteToFailedMemoryFailsTheDevice) {
  ASSERT_EQ(ftruncate(file_.get(), 2 * kPageSize), 0);

  EXPECT_THAT(Write(kPageSize, 2 * kPageSize),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("failed at offset 8192")));

  EXPECT_THAT(device_->Persist(), StatusIs(absl::StatusCode::kUnavailable,
                                           HasSubstr("opened again")));
  EXPECT_THAT(Write(0, 1), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Read(0, 1), IsOk());
}

TEST_P(MemoryCacheDeviceTest, WriteToMemoryKnownAsFailedChangesNothing) {
  ASSERT_EQ(ftruncate(file_.get(), 2 * kPageSize), 0);
  ASSERT_FALSE(Read(2 * kPageSize, 1).ok());

  EXPECT_THAT(Write(2 * kPageSize, 1),
              StatusIs(absl::StatusCode::kUnavailable));

  EXPECT_THAT(device_->Persist(), IsOk());
}

TEST_P(MemoryCacheDeviceTest, ViewOfFailedMemoryIsZeroesAndMarksThem) {
  ASSERT_THAT(Write(5 * kPageSize, kPageSize), IsOk());
  ASSERT_EQ(ftruncate(file_.get(), 2 * kPageSize), 0);

  const std::byte* const view =
      device_->View(MediaOffset(5 * kPageSize), kPageSize);

  EXPECT_TRUE(IsZero({view, kPageSize}));
  EXPECT_THAT(Read(5 * kPageSize, 1), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_P(MemoryCacheDeviceTest, ReopeningForgetsFailures) {
  ASSERT_EQ(ftruncate(file_.get(), 2 * kPageSize), 0);
  ASSERT_FALSE(Write(2 * kPageSize, 1).ok());
  ASSERT_EQ(ftruncate(file_.get(), kSize), 0);

  device_.reset();
  Open();

  EXPECT_THAT(Write(2 * kPageSize, 1), IsOk());
  EXPECT_THAT(device_->Persist(), IsOk());
}

TEST_P(MemoryCacheDeviceTest, ReadOnlyDeviceRefusesWrites) {
  ASSERT_THAT(Write(0, 10), IsOk());
  device_.reset();
  Open(/*read_only=*/true);

  EXPECT_THAT(Read(0, 10), IsOk());
  EXPECT_THAT(Write(0, 10), StatusIs(absl::StatusCode::kFailedPrecondition));
}

using TmpfsTest = MemoryCacheDeviceTest;
INSTANTIATE_TEST_SUITE_P(Media, TmpfsTest, ::testing::Values(Media::kTmpfs));

TEST_P(TmpfsTest, GrowthKeepsViewsValid) {
  const std::byte* const view = device_->View(MediaOffset(0), kSize);
  ASSERT_EQ(ftruncate(file_.get(), 2 * kSize), 0);

  ASSERT_THAT(device_->Refresh(), IsOk());

  EXPECT_EQ(device_->size(), 2 * kSize);
  ASSERT_THAT(Write(0, kSize + 10), IsOk());
  EXPECT_EQ(Copy({view, 100}), Pattern(100, 0));
}

TEST_P(TmpfsTest, ShrinkingIsReported) {
  ASSERT_EQ(ftruncate(file_.get(), kPageSize), 0);

  EXPECT_THAT(device_->Refresh(), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("got 4096 bytes")));

  EXPECT_EQ(device_->size(), kSize);
}

TEST_P(TmpfsTest, IsNotTakenForPersistentMemory) {
  EXPECT_THAT(MemoryCacheDevice::Create(path_, OpenFile(path_, O_RDWR),
                                        {.media = Media::kDax, .size = kSize}),
              StatusIs(absl::StatusCode::kUnimplemented));
}

TEST_P(TmpfsTest, WriteIntoHoleOfFullTmpfsFails) {
  ExpectSuccessInChild([this] {
    // Mounted over the directory of the test, in the child's namespace.
    if (!MountSmallTmpfs(directory_.path(), 8 * kPageSize)) return 0;
    FileDescriptor file = MakeSparseFile(path_, kSize);
    auto device =
        MemoryCacheDevice::Create(path_, std::move(file), {.size = kSize});
    if (!device.ok()) return 1;
    const auto bytes = Pattern(kSize, 3);
    if (!absl::IsUnavailable((*device)->Write(MediaOffset(0), bytes))) return 2;
    return absl::IsUnavailable((*device)->Persist()) ? 0 : 3;
  });
}

TEST_P(TmpfsTest, LockedProcessDoesNotAllocateTheDevice) {
  ExpectSuccessInChild([this] {
    constexpr uint64_t kLarge = uint64_t{1} << 30;
    device_.reset();
    if (ftruncate(file_.get(), kLarge) != 0) return 1;
    // Where locking is not allowed there is nothing to prove.
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return 0;
    auto device = MemoryCacheDevice::Create(path_, OpenFile(path_, O_RDWR),
                                            {.size = kLarge});
    if (!device.ok()) return errno == EAGAIN ? 0 : 2;
    struct stat status;
    if (fstat(file_.get(), &status) != 0) return 3;
    return status.st_blocks == 0 ? 0 : 4;
  });
}

}  // namespace
}  // namespace pcachefs
