// fallocate(2) on the image: punched and zeroed ranges read as zeroes, are told
// as holes, survive a crash, and reach the backing file; what is around them
// stays.

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/loop_device.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr int kPunchHole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
constexpr uint64_t kVersion = 9;

struct Range {
  uint64_t offset;
  uint64_t length;
};

class ZeroAndDiscardTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(served_.Start(), IsOk());
    ASSERT_THAT(WritePattern(served_.image(), kVersion, 0, kData), IsOk());
  }

  // At the edges of sectors, of blocks, of nothing at all, and long.
  const std::vector<std::pair<int, Range>> requests_ = {
      {kPunchHole, {0, 4096}},
      {kPunchHole, {1 * kMiB + 512, 1024}},
      {FALLOC_FL_ZERO_RANGE, {2 * kMiB, 300 * kKiB}},
      {FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, {3 * kMiB + 1536, 512}},
      {kPunchHole, {4 * kMiB + 100, 5000}},
      {FALLOC_FL_ZERO_RANGE, {5 * kMiB + 4095, 2}},
      {kPunchHole, {8 * kMiB, 40 * kMiB}},
      {FALLOC_FL_ZERO_RANGE, {kData - 4096, 4096}},
  };

  void ApplyRequests() {
    File image(served_.image(), O_RDWR);
    for (const auto& [mode, range] : requests_) {
      ASSERT_EQ(image.Allocate(mode, range.offset, range.length), 0)
          << "mode " << mode << " at " << range.offset;
    }
    ASSERT_EQ(image.Sync(), 0);
  }

  void ExpectApplied(const std::string& path) {
    uint64_t offset = 0;
    for (const auto& [mode, range] : requests_) {
      EXPECT_THAT(CheckPattern(path, kVersion, offset, range.offset - offset),
                  IsOk());
      EXPECT_THAT(CheckZero(path, range.offset, range.length), IsOk());
      offset = range.offset + range.length;
    }
    EXPECT_THAT(CheckPattern(path, kVersion, offset, kData - offset), IsOk());
  }

  static constexpr uint64_t kData = 64 * kMiB;
  ServedCache served_{{.backing_size = 96 * kMiB}};
};

TEST_F(ZeroAndDiscardTest, RangesReadAsZeroesAlsoOnTheDrainedBackingFile) {
  ASSERT_NO_FATAL_FAILURE(ApplyRequests());

  ExpectApplied(served_.image());
  ASSERT_THAT(served_.Control("drain"), Succeeds());
  ASSERT_THAT(served_.Stop(), IsOk());
  ExpectApplied(served_.backing());
}

TEST_F(ZeroAndDiscardTest, RangesReadAsZeroesWhenDrainedBefore) {
  ASSERT_THAT(served_.Control("drain"), Succeeds());
  struct stat before;
  ASSERT_EQ(stat(served_.backing().c_str(), &before), 0);

  ASSERT_NO_FATAL_FAILURE(ApplyRequests());

  ExpectApplied(served_.image());
  ASSERT_THAT(served_.Control("drain"), Succeeds());
  ExpectApplied(served_.backing());
  struct stat after;
  ASSERT_EQ(stat(served_.backing().c_str(), &after), 0);
  EXPECT_LE(after.st_blocks * 512, before.st_blocks * 512 - 40 * (1 << 20))
      << "a punched hole takes no space";
}

TEST_F(ZeroAndDiscardTest, OldDataDoesNotComeBackAfterACrash) {
  ASSERT_NO_FATAL_FAILURE(ApplyRequests());

  served_.Kill();
  ASSERT_THAT(served_.Start(), IsOk());

  ExpectApplied(served_.image());
}

TEST_F(ZeroAndDiscardTest, DataWrittenIntoAHoleIsSeen) {
  ASSERT_NO_FATAL_FAILURE(ApplyRequests());

  ASSERT_THAT(WritePattern(served_.image(), 10, 20 * kMiB, kMiB), IsOk());

  EXPECT_THAT(CheckZero(served_.image(), 8 * kMiB, 12 * kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 10, 20 * kMiB, kMiB), IsOk());
  EXPECT_THAT(CheckZero(served_.image(), 21 * kMiB, 27 * kMiB), IsOk());
}

TEST_F(ZeroAndDiscardTest, SeekTellsDataFromHoles) {
  File image(served_.image(), O_RDWR);
  ASSERT_EQ(image.Allocate(kPunchHole, 8 * kMiB, 40 * kMiB), 0);
  const auto seek = [&](uint64_t offset, int whence) -> int64_t {
    const off_t found = lseek(image.fd(), offset, whence);
    return found < 0 ? -errno : found;
  };

  for (const char* when : {"dirty", "drained"}) {
    SCOPED_TRACE(when);
    EXPECT_EQ(seek(0, SEEK_DATA), 0);
    EXPECT_EQ(seek(0, SEEK_HOLE), 8 << 20);
    EXPECT_EQ(seek(9 << 20, SEEK_HOLE), 9 << 20);
    EXPECT_EQ(seek(9 << 20, SEEK_DATA), 48 << 20);
    EXPECT_EQ(seek(50 << 20, SEEK_HOLE), 64 << 20);
    EXPECT_EQ(seek(70 << 20, SEEK_DATA), -ENXIO);
    EXPECT_EQ(seek(96 << 20, SEEK_HOLE), -ENXIO);
    ASSERT_THAT(served_.Control("drain"), Succeeds());
  }
}

TEST_F(ZeroAndDiscardTest, SizeIsFixed) {
  File image(served_.image(), O_RDWR);

  EXPECT_NE(image.Allocate(0, served_.size(), 4096), 0);
  EXPECT_NE(image.Allocate(FALLOC_FL_ZERO_RANGE, served_.size(), 4096), 0);
  EXPECT_NE(image.Allocate(FALLOC_FL_COLLAPSE_RANGE, 0, 4096), 0);
  EXPECT_NE(image.Allocate(FALLOC_FL_INSERT_RANGE, 0, 4096), 0);

  struct stat attributes;
  ASSERT_EQ(fstat(image.fd(), &attributes), 0);
  EXPECT_EQ(attributes.st_size, 96 << 20);
  EXPECT_THAT(CheckPattern(served_.image(), kVersion, 0, kData), IsOk());
}

TEST(HugeRangeTest, FourGibibytesAtOnceWithOthersAtWork) {
  constexpr uint64_t kHuge = 4096 * kMiB;
  ServedCache served({.backing_size = kHuge + 64 * kMiB, .cache_size = "64M"});
  ASSERT_THAT(served.Start(), IsOk());
  ASSERT_THAT(WritePattern(served.image(), 1, 0, 8 * kMiB), IsOk());
  ASSERT_THAT(WritePattern(served.image(), 1, kHuge - 8 * kMiB, 8 * kMiB),
              IsOk());
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (uint64_t version = 2; !done; ++version) {
      EXPECT_THAT(WritePattern(served.image(), version, kHuge, 4 * kMiB),
                  IsOk());
      EXPECT_THAT(CheckPattern(served.image(), version, kHuge, 4 * kMiB),
                  IsOk());
    }
  });
  {
    File image(served.image(), O_RDWR);
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(image.Allocate(kPunchHole, 0, kHuge), 0);
      EXPECT_EQ(image.Allocate(FALLOC_FL_ZERO_RANGE, 0, kHuge), 0);
    }
    EXPECT_EQ(image.Sync(), 0);
  }
  done = true;
  writer.join();

  EXPECT_THAT(CheckZero(served.image(), 0, 8 * kMiB), IsOk());
  EXPECT_THAT(CheckZero(served.image(), kHuge - 8 * kMiB, 8 * kMiB), IsOk());
  ASSERT_THAT(served.Control("drain"), Succeeds());
  EXPECT_THAT(CheckZero(served.backing(), kHuge - 8 * kMiB, 8 * kMiB), IsOk());
}

class FstrimTest : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Filesystems, FstrimTest,
                         testing::Values("ext4", "xfs"));

TEST_P(FstrimTest, GivesSpaceOnTheBackingFileUp) {
  ASSERT_THAT(RequirePrograms({"mkfs.ext4", "mkfs.xfs", "fstrim"}), IsOk());
  ServedCache served({.backing_size = 512 * kMiB});
  const std::string filesystem = served.directory().File("filesystem");
  ASSERT_THAT(served.Start(), IsOk());
  auto loop = LoopDevice::Attach(served.image());
  ASSERT_THAT(loop, IsOk());
  EXPECT_EQ(ContentOf(absl::StrCat("/sys/block/", (*loop)->path().substr(5),
                                   "/queue/discard_granularity")),
            "4096\n");
  ASSERT_THAT(MakeFilesystem(GetParam(), (*loop)->path()), IsOk());
  ASSERT_THAT(Mount((*loop)->path(), filesystem), IsOk());
  MakeFile(filesystem + "/kept", 0);
  MakeFile(filesystem + "/removed", 0);
  ASSERT_THAT(WritePattern(filesystem + "/kept", 1, 0, 20 * kMiB), IsOk());
  ASSERT_THAT(WritePattern(filesystem + "/removed", 2, 0, 100 * kMiB), IsOk());
  ASSERT_THAT(RunCommand({"sync", "--file-system", filesystem}), Succeeds());
  ASSERT_THAT(served.Control("drain"), Succeeds());
  struct stat before;
  ASSERT_EQ(stat(served.backing().c_str(), &before), 0);

  ASSERT_EQ(unlink((filesystem + "/removed").c_str()), 0);
  // XFS frees what a removed file had some time later, but not after this.
  ASSERT_THAT(Unmount(filesystem), IsOk());
  ASSERT_THAT(Mount((*loop)->path(), filesystem), IsOk());
  ASSERT_THAT(RunCommand({"fstrim", filesystem}), Succeeds());

  EXPECT_THAT(CheckPattern(filesystem + "/kept", 1, 0, 20 * kMiB), IsOk());
  ASSERT_THAT(Unmount(filesystem), IsOk());
  ASSERT_THAT(served.Control("drain"), Succeeds());
  struct stat after;
  ASSERT_EQ(stat(served.backing().c_str(), &after), 0);
  EXPECT_LE(after.st_blocks * 512, before.st_blocks * 512 - 90 * (1 << 20));
}

}  // namespace
}  // namespace pcachefs
