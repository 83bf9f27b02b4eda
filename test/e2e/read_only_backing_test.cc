// A golden image that nobody writes to, behind images that are written to: what
// is written stays in the cache, and is bounded by the image's share.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "nlohmann/json.hpp"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ReadOnlyBackingTest : public testing::Test {
 protected:
  ReadOnlyBackingTest()
      : served_({.backing_size = 128 * kMiB,
                 .cache_size = "64M",
                 .flags = {"--read_only_backing"}}) {
    EXPECT_THAT(WritePattern(served_.backing(), 1, 0, 128 * kMiB), IsOk());
    EXPECT_EQ(chmod(served_.backing().c_str(), 0444), 0);
  }
  void TearDown() override {
    EXPECT_THAT(CheckPattern(served_.backing(), 1, 0, 128 * kMiB), IsOk());
  }

  ServedCache served_;
};

TEST_F(ReadOnlyBackingTest, WritesSurviveAndTheGoldenImageStaysAsItIs) {
  ASSERT_THAT(served_.Start(), IsOk());
  // Far more than the share, but of the same place.
  for (int round = 2; round < 12; ++round) {
    ASSERT_THAT(WritePattern(served_.image(), round, 8 * kMiB, 16 * kMiB),
                IsOk());
  }
  EXPECT_THAT(CheckPattern(served_.image(), 1, 0, 8 * kMiB), IsOk());
  const auto image = served_.ImageStatus();
  ASSERT_THAT(image, IsOk());
  EXPECT_EQ((*image)["read_only_backing"], true);
  EXPECT_THAT(served_.Control("drain", {"disk"}),
              RefusesWith(1, HasSubstr("read-only")));
  EXPECT_THAT(served_.Control("drain"), Succeeds());  // all that can be
  EXPECT_THAT(served_.Control("detach", {"disk"}),
              RefusesWith(1, HasSubstr("dirty data")));
  EXPECT_THAT(served_.Control("set", {"disk", "cache_mode=writethrough"}),
              RefusesWith(1, HasSubstr("writeback or writeonly")));

  served_.options().flags.clear();  // it is known
  ASSERT_THAT(served_.Stop(), IsOk());
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 11, 8 * kMiB, 16 * kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 1, 24 * kMiB, 104 * kMiB), IsOk());
}

TEST_F(ReadOnlyBackingTest, TwoImagesOfOneGoldenImage) {
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(served_.Control("set", {"disk", "image_cache_size=24M"}),
              Succeeds());
  // Without the flag images that come are written back.
  served_.options().flags.clear();
  ASSERT_THAT(served_.Stop(), IsOk());
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(served_.Control("attach", {"other", served_.backing()}),
              RefusesWith(1, HasSubstr("backing device of image disk")));

  ASSERT_THAT(served_.Control("attach", {"other", served_.backing(),
                                         "--read_only_backing",
                                         "--image_cache_size=24M"}),
              Succeeds());

  const std::string other = served_.mount() + "/other";
  ASSERT_THAT(WritePattern(served_.image(), 2, 0, kMiB), IsOk());
  ASSERT_THAT(WritePattern(other, 3, 0, kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 2, 0, kMiB), IsOk());
  EXPECT_THAT(CheckPattern(other, 3, 0, kMiB), IsOk());
  EXPECT_THAT(CheckPattern(other, 1, kMiB, kMiB), IsOk());
}

TEST_F(ReadOnlyBackingTest, FullShareIsNoSpaceAndIsLeftAgain) {
  ASSERT_THAT(served_.Start(), IsOk());
  const int file = open(served_.image().c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(file, 0);
  const std::vector<char> bytes(kMiB, 'x');
  uint64_t written = 0;
  while (written < 128 * kMiB &&
         pwrite(file, bytes.data(), bytes.size(), written) ==
             static_cast<ssize_t>(kMiB)) {
    written += kMiB;
  }
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_LT(written, 64 * kMiB);
  EXPECT_GT(written, 24 * kMiB);
  const auto image = served_.ImageStatus();
  ASSERT_THAT(image, IsOk());
  EXPECT_EQ((*image)["state"], "degraded");
  EXPECT_THAT((*image)["state_reason"].get<std::string>(),
              HasSubstr("image_cache_size"));

  EXPECT_EQ(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                      8 * kMiB),
            0);
  EXPECT_EQ(pwrite(file, bytes.data(), bytes.size(), 120 * kMiB),
            static_cast<ssize_t>(kMiB));
  close(file);
}

TEST_F(ReadOnlyBackingTest, WritebackElsewhereTakesACopy) {
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_THAT(WritePattern(served_.image(), 2, kMiB, 4 * kMiB), IsOk());
  ASSERT_THAT(served_.Stop(), IsOk());
  const std::string copy = served_.directory().File("copy.img");
  ASSERT_THAT(RunCommand({"cp", served_.backing(), copy}), Succeeds());
  ASSERT_EQ(chmod(copy.c_str(), 0600), 0);
  EXPECT_THAT(RunCommand({PcachectlPath(), "writeback", served_.cache(),
                          "disk"}),
              RefusesWith(1, AllOf(HasSubstr("read-only"),
                                   HasSubstr("--force"))));

  EXPECT_THAT(RunCommand({PcachectlPath(), "writeback", served_.cache(),
                          "disk", "--force"}),
              RefusesWith(1, HasSubstr("other images may stand")));

  EXPECT_THAT(RunCommand({PcachectlPath(), "writeback", served_.cache(),
                          "disk", copy, "--force"}),
              Succeeds());

  EXPECT_THAT(CheckPattern(copy, 2, kMiB, 4 * kMiB), IsOk());
  EXPECT_THAT(CheckPattern(copy, 1, 8 * kMiB, 8 * kMiB), IsOk());
}

}  // namespace
}  // namespace pcachefs
