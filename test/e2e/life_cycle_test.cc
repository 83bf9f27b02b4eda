// How a daemon begins and ends: every orderly end keeps what was acknowledged
// in the cache, exits with 0, and leaves no mount.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;

struct End {
  const char* name;
  std::function<void(ServedCache&)> bring_about;
};

class EndTest : public testing::TestWithParam<End> {};

TEST_P(EndTest, KeepsDirtyDataAndLeavesNoMount) {
  ServedCache served({.backing_size = 64 * kMiB});
  ASSERT_THAT(served.Start(), IsOk());
  ASSERT_THAT(WritePattern(served.image(), 1, 0, served.size()), IsOk());

  GetParam().bring_about(served);

  EXPECT_EQ(served.WaitForExit(), 0);
  EXPECT_FALSE(IsMounted(served.mount()));
  ASSERT_THAT(served.Start(), IsOk());
  EXPECT_THAT(CheckPattern(served.image(), 1, 0, served.size()), IsOk());
  EXPECT_THAT(served.Stop(), IsOk());
}

INSTANTIATE_TEST_SUITE_P(
    Ends, EndTest,
    testing::Values(
        End{"Stop", [](ServedCache& s) { s.Control("stop"); }},
        End{"Sigterm", [](ServedCache& s) { kill(s.pid(), SIGTERM); }},
        End{"Sigint", [](ServedCache& s) { kill(s.pid(), SIGINT); }},
        End{"Unmount",
            [](ServedCache& s) {
              RunCommand({"umount", s.mount()});
            }}),
    [](const auto& info) { return info.param.name; });

TEST(LifeCycleTest, StopReturnsWhenTheDaemonIsGone) {
  ServedCache served({.backing_size = 64 * kMiB});
  ASSERT_THAT(served.Start(), IsOk());
  ASSERT_THAT(WritePattern(served.image(), 1, 0, kMiB), IsOk());
  const pid_t pid = served.pid();

  ASSERT_THAT(served.Control("stop"), Succeeds());

  // Ended; reaped only by us.
  EXPECT_THAT(ContentOf("/proc/" + std::to_string(pid) + "/cmdline"), "");
  EXPECT_FALSE(IsMounted(served.mount()));
}

TEST(LifeCycleTest, StopWithDrainLeavesNothingDirty) {
  ServedCache served({.backing_size = 64 * kMiB});
  ASSERT_THAT(served.Start(), IsOk());
  ASSERT_THAT(WritePattern(served.image(), 1, 0, served.size()), IsOk());

  ASSERT_THAT(served.Control("stop", {"--drain"}), Succeeds());

  EXPECT_EQ(served.WaitForExit(), 0);
  EXPECT_THAT(CheckPattern(served.backing(), 1, 0, served.size()), IsOk());
}

// In the background, as a shell script starts it: `pcachefs ... | cat` ends as
// soon as the mount answers, so no descriptor of the caller is kept.
TEST(LifeCycleTest, DaemonisesWhenTheMountAnswers) {
  ServedCache served({.backing_size = 64 * kMiB});

  ASSERT_THAT(
      RunCommand({"bash", "-c",
                  "set -o pipefail; " + absl::StrJoin(served.Command(), " ") +
                      " 2>&1 | cat"},
                 absl::Seconds(30)),
      Succeeds());

  EXPECT_TRUE(IsServed(served.mount()));
  ASSERT_THAT(WritePattern(served.image(), 1, 0, kMiB), IsOk());
  EXPECT_THAT(served.Control("stop"), Succeeds());
  EXPECT_FALSE(IsMounted(served.mount()));
}

TEST(LifeCycleTest, KnownImagesComeBackWithoutBeingNamed) {
  ServedCache served({.backing_size = 64 * kMiB});
  ASSERT_THAT(served.Start(), IsOk());
  ASSERT_THAT(WritePattern(served.image(), 1, 0, kMiB), IsOk());
  ASSERT_THAT(served.Stop(), IsOk());

  ASSERT_THAT(
      RunCommand({PcachefsPath(), "--cache=" + served.cache(), served.mount()}),
      Succeeds());

  EXPECT_THAT(CheckPattern(served.image(), 1, 0, kMiB), IsOk());
  EXPECT_THAT(served.Control("stop"), Succeeds());
}

TEST(LifeCycleTest, FlagsAreMountOptionsToo) {
  ServedCache served({.backing_size = 64 * kMiB});

  ASSERT_THAT(
      RunCommand({PcachefsPath(), "-o",
                  "cache=" + served.cache() + ",cache_size=64M,gc_percent=33",
                  "-o", "backing=disk=" + served.backing(), served.mount()}),
      Succeeds());

  const auto image = served.ImageStatus();
  ASSERT_THAT(image, IsOk());
  EXPECT_EQ(image->value("gc_percent", 0), 33);
  EXPECT_THAT(served.Control("stop"), Succeeds());
}

TEST(LifeCycleTest, TwoImagesOnOneCache) {
  ServedCache served({.backing_size = 64 * kMiB});
  const std::string other = served.directory().File("other.img");
  MakeFile(other, 32 * kMiB);
  served.options().more_backing = ",other=" + other;
  const std::string other_image = served.mount() + "/other";
  ASSERT_THAT(served.Start(), IsOk());

  ASSERT_THAT(WritePattern(served.image(), 1, 0, 64 * kMiB), IsOk());
  ASSERT_THAT(WritePattern(other_image, 2, 0, 32 * kMiB), IsOk());

  ASSERT_THAT(served.Stop(), IsOk());
  ASSERT_THAT(served.Start(), IsOk());
  EXPECT_THAT(CheckPattern(served.image(), 1, 0, 64 * kMiB), IsOk());
  EXPECT_THAT(CheckPattern(other_image, 2, 0, 32 * kMiB), IsOk());
  ASSERT_THAT(served.Control("drain", {"other"}), Succeeds());
  EXPECT_THAT(CheckPattern(other, 2, 0, 32 * kMiB), IsOk());
  ASSERT_THAT(served.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served.backing(), 1, 0, 64 * kMiB), IsOk());
}

TEST(LifeCycleTest, ReadOnlyImageRefusesWrites) {
  ServedCache served({.backing_size = 64 * kMiB});
  ASSERT_THAT(WritePattern(served.backing(), 1, 0, kMiB), IsOk());
  served.options().flags = {"--read_only"};
  ASSERT_THAT(served.Start(), IsOk());

  EXPECT_THAT(CheckPattern(served.image(), 1, 0, kMiB), IsOk());
  int error = 0;
  const File image(served.image(), O_RDWR, &error);
  EXPECT_THAT(error, testing::AnyOf(EROFS, EACCES));
  EXPECT_THAT(served.Stop(), IsOk());
}

TEST(LifeCycleTest, CacheInMemoryServesTheSame) {
  ServedCache served(
      {.backing_size = 64 * kMiB, .cache_medium = Medium::kMemory});
  ASSERT_THAT(served.Start(), IsOk());
  ASSERT_THAT(WritePattern(served.image(), 1, 0, served.size()), IsOk());

  ASSERT_THAT(served.Stop(), IsOk());
  ASSERT_THAT(served.Start(), IsOk());

  EXPECT_THAT(CheckPattern(served.image(), 1, 0, served.size()), IsOk());
}

TEST(LifeCycleTest, CacheAndImageAreForTheOwnerOnly) {
  ServedCache served({.backing_size = 64 * kMiB});
  ASSERT_THAT(served.Start(), IsOk());
  struct stat cache;
  struct stat image;
  ASSERT_EQ(stat(served.cache().c_str(), &cache), 0);
  ASSERT_EQ(stat(served.image().c_str(), &image), 0);

  EXPECT_EQ(cache.st_mode & 0777, 0600u);
  EXPECT_EQ(image.st_mode & 0777, 0600u);
}

}  // namespace
}  // namespace pcachefs
