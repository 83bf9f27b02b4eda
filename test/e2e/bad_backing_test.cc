// Backing devices that cannot be served: each is refused with one line and exit
// code 1; the dirty data in the cache waits for the right one.

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
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

using testing::AllOf;
using testing::HasSubstr;

constexpr uint64_t kData = 16 * kMiB;

class BadBackingTest : public testing::Test {
 protected:
  // A cache that has served the backing file, stopped.
  void MakeUsedCache() {
    ASSERT_THAT(served_.Start(), IsOk());
    ASSERT_THAT(WritePattern(served_.image(), 2, 0, kData), IsOk());
    ASSERT_THAT(served_.Stop(), IsOk());
  }

  void ExpectRefusal(testing::Matcher<std::string> line) {
    const uint64_t backing = HashOfFile(served_.backing());
    EXPECT_THAT(RunCommand(served_.Command(), absl::Seconds(30)),
                RefusesWith(1, line));
    EXPECT_FALSE(IsMounted(served_.mount()));
    if (access(served_.backing().c_str(), F_OK) == 0) {
      EXPECT_EQ(HashOfFile(served_.backing()), backing);
    }
  }

  // With the right backing file again.
  void ExpectNothingLost() {
    ASSERT_THAT(served_.Start(), IsOk());
    EXPECT_THAT(CheckPattern(served_.image(), 2, 0, kData), IsOk());
    ASSERT_THAT(served_.Control("drain"), Succeeds());
    ASSERT_THAT(served_.Stop(), IsOk());
    EXPECT_THAT(CheckPattern(served_.backing(), 2, 0, kData), IsOk());
  }

  void Rename(const std::string& from, const std::string& to) {
    ASSERT_EQ(rename(from.c_str(), to.c_str()), 0);
  }

  ServedCache served_{{.backing_size = 64 * kMiB, .cache_size = "64M"}};
  const std::string away_ = served_.backing() + ".away";
};

TEST_F(BadBackingTest, MissingForANewImage) {
  Rename(served_.backing(), away_);

  ExpectRefusal(HasSubstr(served_.backing()));

  EXPECT_NE(access(served_.backing().c_str(), F_OK), 0) << "was created";
  // Neither is there a cache of which the second try would think otherwise.
  Rename(away_, served_.backing());
  ASSERT_THAT(served_.Start(), IsOk());
}

TEST_F(BadBackingTest, MissingForAKnownImage) {
  ASSERT_NO_FATAL_FAILURE(MakeUsedCache());
  Rename(served_.backing(), away_);

  ExpectRefusal(AllOf(HasSubstr(served_.backing()), HasSubstr("disk")));

  Rename(away_, served_.backing());
  ExpectNothingLost();
}

TEST_F(BadBackingTest, SmallerThanRecorded) {
  ASSERT_NO_FATAL_FAILURE(MakeUsedCache());
  ASSERT_EQ(truncate(served_.backing().c_str(), 32 * kMiB), 0);

  ExpectRefusal(AllOf(HasSubstr("33554432"), HasSubstr("67108864")));

  ASSERT_EQ(truncate(served_.backing().c_str(), 64 * kMiB), 0);
  ExpectNothingLost();
}

// It may be refused, or served with the size that is recorded or the new one;
// in no case is anything lost.
TEST_F(BadBackingTest, LargerThanRecorded) {
  ASSERT_NO_FATAL_FAILURE(MakeUsedCache());
  ASSERT_EQ(truncate(served_.backing().c_str(), 96 * kMiB), 0);

  if (const absl::Status started = served_.Start(); !started.ok()) {
    ExpectRefusal(AllOf(HasSubstr("67108864"), HasSubstr("100663296")));
    ASSERT_EQ(truncate(served_.backing().c_str(), 64 * kMiB), 0);
  } else {
    struct stat attributes;
    ASSERT_EQ(stat(served_.image().c_str(), &attributes), 0);
    EXPECT_THAT(attributes.st_size, testing::AnyOf(64 << 20, 96 << 20));
    ASSERT_THAT(served_.Stop(), IsOk());
  }

  ExpectNothingLost();
}

TEST_F(BadBackingTest, NotTheOneRecorded) {
  ASSERT_NO_FATAL_FAILURE(MakeUsedCache());
  Rename(served_.backing(), away_);
  MakeFile(served_.backing(), served_.size());
  ASSERT_THAT(WritePattern(served_.backing(), 5, 0, kMiB), IsOk());

  ExpectRefusal(
      AllOf(HasSubstr(served_.backing()), HasSubstr("got"), HasSubstr("want")));

  EXPECT_THAT(CheckPattern(served_.backing(), 5, 0, kMiB), IsOk());
  Rename(away_, served_.backing());
  ExpectNothingLost();
}

TEST_F(BadBackingTest, NamedAgainWithAnotherPath) {
  ASSERT_NO_FATAL_FAILURE(MakeUsedCache());
  MakeFile(away_, served_.size());

  EXPECT_THAT(RunCommand({PcachefsPath(), "--cache=" + served_.cache(),
                          "--backing=disk=" + away_, served_.mount()}),
              RefusesWith(1, HasSubstr(away_)));

  EXPECT_THAT(CheckZero(away_, 0, served_.size()), IsOk());
  ExpectNothingLost();
}

TEST_F(BadBackingTest, ReadOnlyDevice) {
  auto loop =
      LoopDevice::Attach(served_.backing(), LoopDevice::Access::kReadOnly);
  ASSERT_THAT(loop, IsOk());

  EXPECT_THAT(RunCommand({PcachefsPath(), "--cache=" + served_.cache(),
                          "--cache_size=64M",
                          "--backing=disk=" + (*loop)->path(), served_.mount()},
                         absl::Seconds(30)),
              RefusesWith(1, AllOf(HasSubstr((*loop)->path()),
                                   HasSubstr("read-only"))));
  EXPECT_FALSE(IsMounted(served_.mount()));
}

TEST_F(BadBackingTest, NotADisk) {
  const std::string empty = served_.directory().File("empty");
  const std::string uneven = served_.directory().File("uneven");
  MakeFile(empty, 0);
  MakeFile(uneven, kMiB + 100);

  for (const std::string& path :
       {served_.directory().path(), std::string("/dev/null"), empty, uneven}) {
    EXPECT_THAT(RunCommand({PcachefsPath(), "--cache=" + served_.cache(),
                            "--cache_size=64M", "--backing=disk=" + path,
                            served_.mount()},
                           absl::Seconds(30)),
                RefusesWith(1, HasSubstr(path)));
  }
}

TEST_F(BadBackingTest, ServedByAnotherCacheAlready) {
  ServedCache other({.backing_size = kMiB});
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_THAT(WritePattern(served_.image(), 2, 0, kData), IsOk());

  EXPECT_THAT(
      RunCommand(
          {PcachefsPath(), "--cache=" + other.cache(), "--cache_size=64M",
           "--backing=disk=" + served_.backing(), other.mount()},
          absl::Seconds(30)),
      RefusesWith(1, AllOf(HasSubstr(served_.backing()), HasSubstr("in use"))));
  EXPECT_FALSE(IsMounted(other.mount()));
  EXPECT_THAT(CheckPattern(served_.image(), 2, 0, kData), IsOk());
}

TEST_F(BadBackingTest, TwiceUnderTwoNames) {
  served_.options().more_backing = ",twin=" + served_.backing();

  ExpectRefusal(HasSubstr(served_.backing()));
}

TEST_F(BadBackingTest, TheCacheItself) {
  EXPECT_THAT(
      RunCommand({PcachefsPath(), "--cache=" + served_.backing(),
                  "--backing=disk=" + served_.backing(), served_.mount()},
                 absl::Seconds(30)),
      RefusesWith(1, HasSubstr(served_.backing())));
}

}  // namespace
}  // namespace pcachefs
