// The main job: a filesystem on a loop device on the image holds a real tree;
// once drained, the backing file alone holds the same, byte for byte.

#include <cstdint>
#include <memory>
#include <string>

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

constexpr char kTree[] = "/usr/include";

class MainJobTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ASSERT_THAT(RequirePrograms({"mkfs.ext4", "mkfs.xfs", "mount", "umount",
                                 "cp", "diff", "sync"}),
                IsOk());
    ASSERT_THAT(served_.Start(), IsOk());
  }

  void CopyTreeOntoImage() {
    auto loop = LoopDevice::Attach(served_.image());
    ASSERT_THAT(loop, IsOk());
    ASSERT_THAT(MakeFilesystem(GetParam(), (*loop)->path()), IsOk());
    ASSERT_THAT(Mount((*loop)->path(), filesystem_), IsOk());
    ASSERT_THAT(RunCommand({"cp", "-a", kTree, filesystem_ + "/tree"}),
                Succeeds());
    ASSERT_THAT(RunCommand({"sync", "--file-system", filesystem_}), Succeeds());
    ASSERT_THAT(CheckSameTree(kTree, filesystem_ + "/tree"), IsOk());
    ASSERT_THAT(Unmount(filesystem_), IsOk());
  }

  // What the filesystem in `file` shows, with nothing of it in memory.
  void ExpectTreeIn(const std::string& file) {
    auto loop = LoopDevice::Attach(file, LoopDevice::Access::kReadOnly);
    ASSERT_THAT(loop, IsOk());
    ASSERT_THAT(Mount((*loop)->path(), filesystem_, "ro"), IsOk());
    EXPECT_THAT(CheckSameTree(kTree, filesystem_ + "/tree"), IsOk());
    ASSERT_THAT(Unmount(filesystem_), IsOk());
  }

  ServedCache served_{{.backing_size = 640 * kMiB, .cache_size = "320M"}};
  const std::string filesystem_ = served_.directory().File("filesystem");
};

TEST_P(MainJobTest, DrainedBackingFileIsTheImage) {
  ASSERT_NO_FATAL_FAILURE(CopyTreeOntoImage());
  ASSERT_NO_FATAL_FAILURE(ExpectTreeIn(served_.image()));

  ASSERT_THAT(served_.Control("drain"), Succeeds());

  EXPECT_THAT(served_.Control("status", {"--quiet"}), Succeeds());
  const uint64_t shown = HashOfFile(served_.image());
  ASSERT_THAT(served_.Stop(), IsOk());
  EXPECT_EQ(HashOfFile(served_.backing()), shown);
  ASSERT_NO_FATAL_FAILURE(ExpectTreeIn(served_.backing()));
}

TEST_P(MainJobTest, StoppedWithoutDrainTheCacheHasTheRest) {
  ASSERT_NO_FATAL_FAILURE(CopyTreeOntoImage());
  const uint64_t shown = HashOfFile(served_.image());

  ASSERT_THAT(served_.Stop(), IsOk());
  ASSERT_THAT(served_.Start(), IsOk());

  EXPECT_EQ(HashOfFile(served_.image()), shown);
  ASSERT_NO_FATAL_FAILURE(ExpectTreeIn(served_.image()));
}

INSTANTIATE_TEST_SUITE_P(Filesystems, MainJobTest,
                         testing::Values("ext4", "xfs"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pcachefs
