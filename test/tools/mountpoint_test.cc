// Directories that are fit to be mounted on, and those that are not.

#include "tools/mountpoint.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;

namespace fs = std::filesystem;

class MountpointTest : public testing::Test {
 protected:
  MountpointTest() {
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  ~MountpointTest() override { fs::remove_all(directory_); }

  const std::string directory_ =
      fs::weakly_canonical(testing::TempDir() + "/mountpoint_test").string();
};

TEST_F(MountpointTest, AnEmptyDirectoryIsFit) {
  EXPECT_THAT(CheckMountpoint(directory_ + "/.", {"/elsewhere/cache"}),
              IsOkAndHolds(directory_));
}

TEST_F(MountpointTest, MissingFilledAndNoDirectoryAreNot) {
  EXPECT_THAT(CheckMountpoint(directory_ + "/no", {}),
              StatusIs(absl::StatusCode::kNotFound));
  const std::string file = directory_ + "/file";
  std::ofstream(file).put('x');
  EXPECT_THAT(
      CheckMountpoint(file, {}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no directory")));
  EXPECT_THAT(
      CheckMountpoint(directory_, {}),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not empty")));
}

TEST_F(MountpointTest, ItMustNotCoverWhatItNeeds) {
  EXPECT_THAT(CheckMountpoint(directory_, {directory_ + "/new_cache"}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("would cover")));
}

TEST(MountTypeAt, FindsTheTopmostMount) {
  const std::string mountinfo =
      "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
      "30 22 0:26 / /mnt/a\\040b rw - tmpfs tmpfs rw\n"
      "31 30 0:27 / /mnt/a\\040b rw shared:2 master:1 - fuse.pcachefs x rw\n";

  EXPECT_EQ(MountTypeAt("/", mountinfo), "ext4");
  EXPECT_EQ(MountTypeAt("/mnt/a b", mountinfo), "fuse.pcachefs");
  EXPECT_EQ(MountTypeAt("/mnt", mountinfo), "");
  EXPECT_EQ(MountTypeAt("/", "rubbish\n\n1 2 3\n"), "");
  // A backslash that begins no number is one.
  EXPECT_EQ(MountTypeAt("/a\\xyz", "1 2 3:4 / /a\\xyz rw - ext4 x rw\n"),
            "ext4");
  EXPECT_EQ(MountTypeAt("/a\\999", "1 2 3:4 / /a\\999 rw - ext4 x rw\n"),
            "ext4");
}

}  // namespace
}  // namespace pcachefs
