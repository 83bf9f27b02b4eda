// A crash of the daemon alone loses no acknowledged write, flushed or not. Each
// crash is a kill -9 in the middle of writing, and the same command starts the
// daemon again.

#include <fcntl.h>

#include <cstdint>
#include <iostream>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/acknowledged_writer.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/loop_device.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;

struct Setting {
  const char* name;
  const char* cache_size;
  Medium cache_medium;
};

class KillTest : public testing::TestWithParam<Setting> {
 protected:
  KillTest()
      : served_({.backing_size = 128 * kMiB,
                 .cache_size = GetParam().cache_size,
                 .cache_medium = GetParam().cache_medium}) {}

  ServedCache served_;
};

TEST_P(KillTest, AcknowledgedWritesAreThereAfterEachRestart) {
  constexpr int kThreads = 4;
  AcknowledgedWriter writer(served_.image(), served_.size(), kThreads);

  for (int round = 1; round <= 5; ++round) {
    ASSERT_THAT(served_.Start(), IsOk()) << "round " << round;
    ASSERT_THAT(writer.Check(served_.image()), IsOk()) << "round " << round;
    const uint64_t before = writer.acknowledged_count();
    // At another moment in the life of the log each time.
    writer.WriteUntil(700 * round, round, [this] { served_.Kill(); });
    ASSERT_GE(writer.acknowledged_count() - before, 700 * round);
  }

  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(writer.Check(served_.image()), IsOk());
  ASSERT_THAT(served_.Control("drain"), Succeeds());
  ASSERT_THAT(served_.Stop(), IsOk());
  EXPECT_THAT(writer.Check(served_.backing()), IsOk());
}

// The small ones are full: writeback and reclaim are interrupted too.
INSTANTIATE_TEST_SUITE_P(
    Caches, KillTest,
    testing::Values(Setting{"LargeOnDisk", "256M", Medium::kDisk},
                    Setting{"SmallOnDisk", "32M", Medium::kDisk},
                    Setting{"SmallInMemory", "32M", Medium::kMemory}),
    [](const auto& info) { return info.param.name; });

TEST(KillDrainTest, InterruptedDrainIsTakenUpAgain) {
  ServedCache served({.backing_size = 256 * kMiB,
                      .cache_size = "400M",
                      .cache_medium = Medium::kMemory});
  ASSERT_THAT(served.Start(), IsOk());
  ASSERT_THAT(WritePattern(served.image(), 1, 0, served.size()), IsOk());

  auto drain = Process::Start({PcachectlPath(), "drain", served.mount()});
  ASSERT_THAT(drain, IsOk());
  served.Kill();

  // It may just have been done; it never hangs.
  ASSERT_TRUE((*drain)->WaitFor(absl::Minutes(1)));
  EXPECT_LE((*drain)->outcome().exit_code, 1) << (*drain)->outcome();
  ASSERT_THAT(served.Start(), IsOk());
  ASSERT_THAT(served.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served.image(), 1, 0, served.size()), IsOk());
  EXPECT_THAT(CheckPattern(served.backing(), 1, 0, served.size()), IsOk());
}

class KillFilesystemTest : public testing::TestWithParam<const char*> {};

TEST_P(KillFilesystemTest, SyncedFilesAreThereAndTheFilesystemIsSound) {
  ASSERT_THAT(RequirePrograms({"mkfs.ext4", "mkfs.xfs", "e2fsck", "cp"}),
              IsOk());
  const std::string type = GetParam();
  ServedCache served({.backing_size = 512 * kMiB});
  const std::string filesystem = served.directory().File("filesystem");
  ASSERT_THAT(served.Start(), IsOk());
  auto loop = LoopDevice::Attach(served.image());
  ASSERT_THAT(loop, IsOk());
  ASSERT_THAT(MakeFilesystem(type, (*loop)->path()), IsOk());
  ASSERT_THAT(Mount((*loop)->path(), filesystem), IsOk());
  ASSERT_THAT(
      RunCommand({"cp", "-a", "/usr/include/linux", filesystem + "/synced"}),
      Succeeds());
  ASSERT_THAT(RunCommand({"sync", "--file-system", filesystem}), Succeeds());

  auto copy =
      Process::Start({"cp", "-a", "/usr/include", filesystem + "/unsynced"});
  ASSERT_THAT(copy, IsOk());
  ASSERT_TRUE(WaitUntil(absl::Minutes(1), [&] {
    return !ContentOf(filesystem + "/unsynced/stdio.h").empty() ||
           (*copy)->WaitFor(absl::ZeroDuration());
  }));
  served.Kill();
  (*copy)->WaitFor(absl::Minutes(1));
  // The filesystem has met errors: what it says of them is its own business.
  RunCommand({"umount", filesystem});
  loop->reset();
  ASSERT_FALSE(IsMounted(filesystem));

  ASSERT_THAT(served.Start(), IsOk());
  loop = LoopDevice::Attach(served.image());
  ASSERT_THAT(loop, IsOk());
  // Replays its journal.
  ASSERT_THAT(Mount((*loop)->path(), filesystem), IsOk());
  EXPECT_THAT(CheckSameTree("/usr/include/linux", filesystem + "/synced"),
              IsOk());
  ASSERT_THAT(Unmount(filesystem), IsOk());
  if (type == "ext4") {
    EXPECT_THAT(RunCommand({"e2fsck", "-f", "-n", (*loop)->path()}),
                Succeeds());
  } else {
    EXPECT_THAT(RunCommand({"xfs_repair", "-n", (*loop)->path()}), Succeeds());
  }
}

INSTANTIATE_TEST_SUITE_P(Filesystems, KillFilesystemTest,
                         testing::Values("ext4", "xfs"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pcachefs
