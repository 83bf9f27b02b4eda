// A cache device that fails while it is served: cannot read, refuses writes or
// persists, has no space for what it promised. Clean data comes from the
// backing device, dirty data that cannot be had answers EIO and affects nothing
// else, nothing acknowledged is lost once the device is well again, and status
// and metrics tell.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/faulty_file.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/loop_device.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;
using Operation = FaultyFile::Operation;

constexpr absl::Duration kPatience = absl::Minutes(1);
constexpr uint64_t kCacheSize = 96 * kMiB;

// How far writing blocks of `version` from `offset` on came before an error.
uint64_t WriteUntilError(const std::string& image, uint64_t version,
                         uint64_t offset, uint64_t end) {
  File file(image, O_WRONLY | O_DIRECT);
  Buffer buffer(64 * kKiB);
  while (offset < end) {
    FillPattern(buffer.span(), version, offset);
    const ssize_t written = file.Write(offset, buffer.span());
    if (written != static_cast<ssize_t>(buffer.size())) {
      EXPECT_EQ(written, -EIO);
      break;
    }
    offset += buffer.size();
  }
  return offset;
}

// Reads that the kernel has not answered before.
int CountBadBlocks(const std::string& image, uint64_t version, uint64_t offset,
                   uint64_t length) {
  File file(image, O_RDONLY | O_DIRECT);
  Buffer block(kBlockSize);
  int bad = 0;
  for (uint64_t at = offset; at < offset + length; at += kBlockSize) {
    const ssize_t read = file.Read(at, block.span());
    if (read != kBlock) {
      EXPECT_EQ(read, -EIO);
      ++bad;
    } else {
      EXPECT_TRUE(HasPattern(block.span(), version, at)) << "at " << at;
    }
  }
  return bad;
}

class CacheFaultTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(WritePattern(served_.backing(), 1, 0, served_.size()), IsOk());
    const std::string file = served_.directory().File("cache");
    MakeFile(file, kCacheSize);
    ASSERT_THAT(RunCommand({PcachectlPath(), "format", file, "--force"}),
                Succeeds());
    auto faulty =
        FaultyFile::Serve(file, served_.directory().File("faulty_cache"));
    ASSERT_THAT(faulty, IsOk());
    cache_ = *std::move(faulty);
    faulty = FaultyFile::Serve(served_.backing(),
                               served_.directory().File("faulty_backing"));
    ASSERT_THAT(faulty, IsOk());
    backing_ = *std::move(faulty);
    served_.options().cache_path = cache_->path();
    served_.options().backing_spec = backing_->path();
    ASSERT_THAT(served_.Start(), IsOk());
  }

  // So that the next reads ask the device.
  void DropPagesOfTheCache() {
    File file(cache_->path(), O_RDONLY);
    ASSERT_EQ(file.Sync(), 0);
    ASSERT_EQ(posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED), 0);
  }

  bool WaitForState(const std::string& state) {
    return WaitUntil(kPatience, [&] { return served_.State() == state; });
  }

  ServedCache served_{{.backing_size = 64 * kMiB}};
  std::unique_ptr<FaultyFile> cache_;
  std::unique_ptr<FaultyFile> backing_;
};

TEST_F(CacheFaultTest, CleanDataThatItCannotReadComesFromTheBackingDevice) {
  ASSERT_THAT(WritePattern(served_.image(), 2, 0, 16 * kMiB), IsOk());
  ASSERT_THAT(served_.Control("drain"), Succeeds());
  ASSERT_NO_FATAL_FAILURE(DropPagesOfTheCache());
  cache_->Fail({Operation::kRead}, EIO, 16 * kMiB);

  EXPECT_EQ(CountBadBlocks(served_.image(), 2, 0, 16 * kMiB), 0);
  EXPECT_THAT(CheckPattern(served_.image(), 1, 32 * kMiB, 4 * kMiB), IsOk());

  EXPECT_GT(cache_->fault_count(), 0u);
  cache_->Heal();
  EXPECT_THAT(WritePattern(served_.image(), 3, 0, 4 * kMiB), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

TEST_F(CacheFaultTest, DirtyDataThatItCannotReadIsThereWhenItCanAgain) {
  backing_->Fail({Operation::kWrite}, EIO);
  ASSERT_THAT(WritePattern(served_.image(), 2, 0, 16 * kMiB), IsOk());
  ASSERT_NO_FATAL_FAILURE(DropPagesOfTheCache());
  cache_->Fail({Operation::kRead}, EIO, 2 * kMiB);

  EXPECT_GT(CountBadBlocks(served_.image(), 2, 0, 16 * kMiB), 0);
  EXPECT_THAT(CheckPattern(served_.image(), 1, 32 * kMiB, 4 * kMiB), IsOk());
  EXPECT_THAT(WritePattern(served_.image(), 2, 48 * kMiB, kMiB), IsOk());

  cache_->Heal();
  backing_->Heal();
  EXPECT_EQ(CountBadBlocks(served_.image(), 2, 0, 16 * kMiB), 0);
  EXPECT_TRUE(WaitForState("running"));
  EXPECT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served_.backing(), 2, 0, 16 * kMiB), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

// A state that is not left without a replay (C9): what did reach the media is
// not known.
class RefusingCacheTest : public CacheFaultTest,
                          public testing::WithParamInterface<Operation> {};

TEST_P(RefusingCacheTest, NothingAcknowledgedIsLostAndReadsGoOn) {
  ASSERT_THAT(WritePattern(served_.image(), 2, 0, 8 * kMiB), IsOk());
  cache_->Fail({GetParam()}, EIO);

  const uint64_t end = WriteUntilError(served_.image(), 2, 8 * kMiB, 12 * kMiB);
  // Else all that was acknowledged has been flushed before.
  if (end > 8 * kMiB) {
    EXPECT_EQ(File(served_.image(), O_WRONLY).Sync(), EIO);
  }
  ASSERT_TRUE(WaitForState("failed"));
  const auto status = served_.Status();
  ASSERT_THAT(status, IsOk());
  EXPECT_EQ(status->at("cache").value("state", ""), "failed");
  EXPECT_THAT(status->at("cache").value("state_reason", ""),
              HasSubstr(cache_->path()));
  EXPECT_THAT(ContentOf(served_.mount() + "/.pcache/metrics"),
              HasSubstr("state=\"failed\"} 1"));
  EXPECT_EQ(WriteUntilError(served_.image(), 3, 0, kMiB), 0u);
  EXPECT_EQ(CountBadBlocks(served_.image(), 2, 0, end), 0);
  EXPECT_THAT(CheckPattern(served_.image(), 1, 48 * kMiB, kMiB), IsOk());
  EXPECT_THAT(served_.Control("flush"), ExitsWith(1));
  // Before the device is well: still nothing.
  cache_->Heal();
  EXPECT_EQ(WriteUntilError(served_.image(), 3, 0, kMiB), 0u);

  ASSERT_EQ(kill(served_.pid(), SIGTERM), 0);
  EXPECT_NE(served_.WaitForExit(), -1);
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_EQ(served_.State(), "running");
  EXPECT_EQ(CountBadBlocks(served_.image(), 2, 0, end), 0);
  EXPECT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served_.backing(), 2, 0, end), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
  EXPECT_THAT(RunCommand({PcachectlPath(), "check", cache_->path()}),
              Succeeds());
}

INSTANTIATE_TEST_SUITE_P(Operations, RefusingCacheTest,
                         testing::Values(Operation::kWrite, Operation::kFlush),
                         [](const auto& info) {
                           return info.param == Operation::kWrite ? "Write"
                                                                  : "Flush";
                         });

// Neither device ever transfers all that it is asked for.
TEST(ShortTransfersTest, NobodyNotices) {
  ServedCache served({.backing_size = 32 * kMiB});
  ASSERT_THAT(WritePattern(served.backing(), 1, 0, served.size()), IsOk());
  const std::string file = served.directory().File("cache");
  MakeFile(file, 48 * kMiB);
  ASSERT_THAT(RunCommand({PcachectlPath(), "format", file, "--force"}),
              Succeeds());
  auto cache = FaultyFile::Serve(file, served.directory().File("short_cache"));
  ASSERT_THAT(cache, IsOk());
  auto backing = FaultyFile::Serve(served.backing(),
                                   served.directory().File("short_backing"));
  ASSERT_THAT(backing, IsOk());
  (*cache)->TransferShort({Operation::kRead, Operation::kWrite});
  (*backing)->TransferShort({Operation::kRead});
  served.options().cache_path = (*cache)->path();
  served.options().backing_spec = (*backing)->path();
  ASSERT_THAT(served.Start(), IsOk());

  EXPECT_THAT(CheckPattern(served.image(), 1, 0, 8 * kMiB), IsOk());
  ASSERT_THAT(WritePattern(served.image(), 2, 4 * kMiB, 8 * kMiB), IsOk());
  EXPECT_EQ(CountBadBlocks(served.image(), 2, 4 * kMiB, 8 * kMiB), 0);
  served.Kill();
  ASSERT_THAT(served.Start(), IsOk());
  EXPECT_EQ(CountBadBlocks(served.image(), 2, 4 * kMiB, 8 * kMiB), 0);
  EXPECT_THAT(served.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served.backing(), 1, 0, 4 * kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served.backing(), 2, 4 * kMiB, 8 * kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served.backing(), 1, 12 * kMiB, 20 * kMiB), IsOk());
  EXPECT_GT((*cache)->fault_count(), 0u);
  EXPECT_GT((*backing)->fault_count(), 0u);
  EXPECT_THAT(served.Stop(), IsOk());
}

// A sparse cache file on a filesystem without the space for it: pcachefs makes
// none, but people do. Written with pwrite on a disk, through a mapping in
// memory.
struct FullMedium {
  const char* name;
  bool is_memory;
};

class FullCacheTest : public testing::TestWithParam<FullMedium> {
 protected:
  void SetUp() override {
    mkdir(filesystem_.c_str(), 0700);
    if (GetParam().is_memory) {
      ASSERT_EQ(mount("small", filesystem_.c_str(), "tmpfs", 0, "size=48m"), 0);
    } else {
      const std::string disk = served_.directory().File("small");
      MakeFile(disk, 160 * kMiB);
      auto loop = LoopDevice::Attach(disk);
      ASSERT_THAT(loop, IsOk());
      loop_ = *std::move(loop);
      ASSERT_THAT(MakeFilesystem("ext4", loop_->path()), IsOk());
      ASSERT_THAT(Mount(loop_->path(), filesystem_), IsOk());
      MakeFile(filesystem_ + "/filler", 0);
      File filler(filesystem_ + "/filler", O_RDWR);
      ASSERT_EQ(filler.Allocate(0, 0, 90 * kMiB), 0);
    }
    const std::string cache = filesystem_ + "/cache";
    MakeFile(cache, kCacheSize);
    ASSERT_THAT(RunCommand({PcachectlPath(), "format", cache, "--force"}),
                Succeeds());
    served_.options().cache_path = cache;
  }

  ServedCache served_{{.backing_size = 128 * kMiB}};
  const std::string filesystem_ = served_.directory().File("filesystem");
  std::unique_ptr<LoopDevice> loop_;
};

TEST_P(FullCacheTest, NothingAcknowledgedIsLost) {
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_THAT(served_.Control("set", {"disk", "gc_percent=90"}), Succeeds());

  // As dirty as can be: the device says no before the cache is full.
  const uint64_t end = WriteUntilError(served_.image(), 1, 0, 128 * kMiB);

  EXPECT_LT(end, 128 * kMiB);
  EXPECT_GT(end, 16 * kMiB);
  ASSERT_TRUE(
      WaitUntil(kPatience, [&] { return served_.State() == "failed"; }));
  const auto status = served_.ImageStatus();
  ASSERT_THAT(status, IsOk());
  EXPECT_THAT(status->value("state_reason", ""), HasSubstr(served_.cache()));
  EXPECT_EQ(CountBadBlocks(served_.image(), 1, 0, end), 0);
  ASSERT_EQ(kill(served_.pid(), SIGTERM), 0);
  EXPECT_NE(served_.WaitForExit(), -1);

  // With space it goes on as if nothing had been.
  if (GetParam().is_memory) {
    ASSERT_EQ(
        mount("small", filesystem_.c_str(), "tmpfs", MS_REMOUNT, "size=128m"),
        0);
  } else {
    ASSERT_EQ(unlink((filesystem_ + "/filler").c_str()), 0);
  }
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_EQ(served_.State(), "running");
  EXPECT_EQ(CountBadBlocks(served_.image(), 1, 0, end), 0);
  EXPECT_THAT(WritePattern(served_.image(), 2, 64 * kMiB, 64 * kMiB), IsOk());
  EXPECT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served_.backing(), 1, 0, std::min(end, 64 * kMiB)),
              IsOk());
  EXPECT_THAT(CheckPattern(served_.backing(), 2, 64 * kMiB, 64 * kMiB), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

INSTANTIATE_TEST_SUITE_P(Media, FullCacheTest,
                         testing::Values(FullMedium{"Disk", false},
                                         FullMedium{"Memory", true}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace pcachefs
