// Cache devices that cannot be served: each is refused with one line and exit
// code 1, and neither the cache nor the backing file is touched.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
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

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

class BadCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(WritePattern(served_.backing(), 1, 0, kMiB), IsOk());
  }

  // A cache with dirty data in it, stopped.
  void MakeUsedCache() {
    ASSERT_THAT(served_.Start(), IsOk());
    ASSERT_THAT(WritePattern(served_.image(), 2, 0, 8 * kMiB), IsOk());
    ASSERT_THAT(served_.Stop(), IsOk());
  }

  // The outcome of serving; fails the test if it changed a byte.
  Outcome Serve() {
    const uint64_t cache = HashOfFile(served_.cache());
    const uint64_t backing = HashOfFile(served_.backing());
    const Outcome outcome = RunCommand(served_.Command(), absl::Seconds(30));
    EXPECT_EQ(HashOfFile(served_.cache()), cache) << "the cache was changed";
    EXPECT_EQ(HashOfFile(served_.backing()), backing);
    EXPECT_FALSE(IsMounted(served_.mount()));
    return outcome;
  }

  void Overwrite(uint64_t offset, const std::string& bytes) {
    File cache(served_.cache(), O_RDWR);
    ASSERT_EQ(cache.Write(offset, bytes), static_cast<ssize_t>(bytes.size()));
  }

  ServedCache served_{{.backing_size = 64 * kMiB, .cache_size = "64M"}};
};

TEST_F(BadCacheTest, TooSmallToBeFormatted) {
  served_.options().cache_size = "12M";
  served_.options().flags = {"--segment_size=1M"};

  const Outcome outcome = RunCommand(served_.Command());

  EXPECT_THAT(outcome, AnyOf(RefusesWith(1, HasSubstr("want at least 16")),
                             RefusesWith(2, HasSubstr("want at least 16"))));
  EXPECT_NE(access(served_.cache().c_str(), F_OK), 0) << "a file was left";
}

TEST_F(BadCacheTest, MissingAndNoSizeGiven) {
  EXPECT_THAT(
      RunCommand({PcachefsPath(), "--cache=" + served_.cache(),
                  "--backing=disk=" + served_.backing(), served_.mount()}),
      RefusesWith(1,
                  AllOf(HasSubstr(served_.cache()), HasSubstr("cache_size"))));
  EXPECT_NE(access(served_.cache().c_str(), F_OK), 0);
}

TEST_F(BadCacheTest, InADirectoryThatIsMissing) {
  const std::string path = served_.directory().File("no/such/cache");

  EXPECT_THAT(
      RunCommand({PcachefsPath(), "--cache=" + path, "--cache_size=64M",
                  "--backing=disk=" + served_.backing(), served_.mount()}),
      RefusesWith(1, HasSubstr(path)));
}

TEST_F(BadCacheTest, ADirectory) {
  ASSERT_EQ(mkdir(served_.cache().c_str(), 0700), 0);

  EXPECT_THAT(RunCommand(served_.Command()),
              RefusesWith(1, HasSubstr(served_.cache())));
}

TEST_F(BadCacheTest, Truncated) {
  ASSERT_NO_FATAL_FAILURE(MakeUsedCache());
  const uint64_t shown = HashOfFile(served_.cache());
  ASSERT_EQ(
      rename(served_.cache().c_str(), (served_.cache() + ".whole").c_str()), 0);
  ASSERT_THAT(RunCommand({"cp", served_.cache() + ".whole", served_.cache()}),
              Succeeds());
  ASSERT_EQ(truncate(served_.cache().c_str(), 32 * kMiB), 0);

  EXPECT_THAT(Serve(), RefusesWith(1, AllOf(HasSubstr(served_.cache()),
                                            HasSubstr("33554432"),
                                            HasSubstr("67108864"))));

  // Nothing lost: the whole one still is what it was.
  EXPECT_EQ(HashOfFile(served_.cache() + ".whole"), shown);
}

TEST_F(BadCacheTest, TruncatedWithinTheMetadata) {
  ASSERT_NO_FATAL_FAILURE(MakeUsedCache());
  for (const uint64_t size : {0, 100, 4096, 8192, 20000}) {
    SCOPED_TRACE(size);
    ASSERT_EQ(truncate(served_.cache().c_str(), size), 0);
    EXPECT_THAT(Serve(), RefusesWith(1, HasSubstr(served_.cache())));
  }
}

TEST_F(BadCacheTest, ForeignIsRefusedWithTheCommandThatWouldFormatIt) {
  struct Foreign {
    const char* name;
    std::function<void(const std::string&)> fill;
  };
  const std::vector<Foreign> foreigners = {
      {"zeroes", [](const std::string&) {}},
      {"random bytes",
       [](const std::string& path) {
         ASSERT_THAT(WritePattern(path, 77, 0, 64 * kMiB), IsOk());
       }},
      {"a filesystem",
       [](const std::string& path) {
         ASSERT_THAT(RunCommand({"mkfs.ext4", "-q", "-F", path}), Succeeds());
       }},
  };
  for (const Foreign& foreign : foreigners) {
    SCOPED_TRACE(foreign.name);
    MakeFile(served_.cache(), 64 * kMiB);
    foreign.fill(served_.cache());

    EXPECT_THAT(Serve(), RefusesWith(1, AllOf(HasSubstr("pcachectl format"),
                                              HasSubstr(served_.cache()))));

    ASSERT_EQ(unlink(served_.cache().c_str()), 0);
  }
}

// docs/on_media_format.md, section 3: in both slots, checked before the CRC.
TEST_F(BadCacheTest, OfANewerVersion) {
  ASSERT_NO_FATAL_FAILURE(MakeUsedCache());
  Overwrite(24, std::string("\x02\x00", 2));
  Overwrite(4096 + 24, std::string("\x02\x00", 2));

  EXPECT_THAT(Serve(), RefusesWith(1, AllOf(HasSubstr("version"),
                                            HasSubstr("2"), HasSubstr("1"))));

  Overwrite(24, std::string("\x01\x00", 2));
  Overwrite(4096 + 24, std::string("\x01\x00", 2));
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 2, 0, 8 * kMiB), IsOk());
}

TEST_F(BadCacheTest, WithBothSuperblocksDamaged) {
  ASSERT_NO_FATAL_FAILURE(MakeUsedCache());
  Overwrite(60, "xx");
  Overwrite(4096 + 60, "xx");

  EXPECT_THAT(Serve(), RefusesWith(1, HasSubstr("superblock")));
}

TEST_F(BadCacheTest, OneDamagedSuperblockIsNoMatter) {
  ASSERT_NO_FATAL_FAILURE(MakeUsedCache());
  Overwrite(60, "xx");

  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 2, 0, 8 * kMiB), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

TEST_F(BadCacheTest, InUseByAnotherDaemon) {
  const std::string other = served_.directory().File("other");
  ASSERT_EQ(mkdir(other.c_str(), 0700), 0);
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_THAT(WritePattern(served_.image(), 2, 0, 8 * kMiB), IsOk());

  const Outcome second =
      RunCommand({PcachefsPath(), "--cache=" + served_.cache(), other});

  EXPECT_THAT(second, RefusesWith(1, AllOf(HasSubstr(served_.cache()),
                                           HasSubstr("in use"))));
  EXPECT_FALSE(IsMounted(other));
  EXPECT_THAT(CheckPattern(served_.image(), 2, 0, 8 * kMiB), IsOk());
  EXPECT_THAT(
      RunCommand({PcachectlPath(), "format", served_.cache(), "--force"}),
      RefusesWith(1, HasSubstr("in use")));
  EXPECT_THAT(CheckPattern(served_.image(), 2, 0, 8 * kMiB), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

}  // namespace
}  // namespace pcachefs
