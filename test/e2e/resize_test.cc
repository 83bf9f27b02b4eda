// Sizes that change while the cache is in use: of backing devices, of the cache
// device, of shares; and many images on one cache.

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "nlohmann/json.hpp"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AllOf;
using testing::HasSubstr;

uint64_t SizeOf(const std::string& path) {
  struct stat attributes = {};
  return stat(path.c_str(), &attributes) == 0 ? attributes.st_size : 0;
}

TEST(ResizeTest, GrownBackingFileIsSeenAndUsed) {
  ServedCache served({.backing_size = 64 * kMiB});
  ASSERT_THAT(served.Start(), IsOk());
  ASSERT_EQ(truncate(served.backing().c_str(), 96 * kMiB), 0);

  ASSERT_TRUE(WaitUntil(absl::Minutes(1),
                        [&] { return SizeOf(served.image()) == 96 * kMiB; }));

  ASSERT_THAT(WritePattern(served.image(), 1, 0, 96 * kMiB), IsOk());
  ASSERT_THAT(served.Stop(), IsOk());
  ASSERT_EQ(truncate(served.backing().c_str(), 128 * kMiB), 0);
  ASSERT_THAT(served.Start(), IsOk());
  EXPECT_EQ(SizeOf(served.image()), 128 * kMiB);
  EXPECT_THAT(CheckPattern(served.image(), 1, 0, 96 * kMiB), IsOk());
  ASSERT_THAT(served.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served.backing(), 1, 0, 96 * kMiB), IsOk());
}

TEST(ResizeTest, ShrunkBackingFileIsToldOrRefused) {
  ServedCache served({.backing_size = 64 * kMiB});
  ASSERT_THAT(served.Start(), IsOk());
  ASSERT_EQ(truncate(served.backing().c_str(), 32 * kMiB), 0);
  ASSERT_TRUE(WaitUntil(absl::Minutes(1), [&] {
    const auto image = served.ImageStatus();
    return image.ok() && image->value("state", "") == "degraded";
  }));
  EXPECT_THAT(served.ImageStatus()->value("state_reason", ""),
              HasSubstr("became smaller"));

  ASSERT_THAT(served.Stop(), IsOk());

  EXPECT_THAT(RunCommand(served.Command()),
              RefusesWith(1, AllOf(HasSubstr("33554432"),
                                   HasSubstr("67108864"))));
}

TEST(ResizeTest, GrownCacheGivesSegments) {
  ServedCache served({.backing_size = 256 * kMiB, .cache_size = "64M"});
  ASSERT_THAT(served.Start(), IsOk());
  ASSERT_THAT(WritePattern(served.image(), 1, 0, 16 * kMiB), IsOk());
  const auto segments = [&] {
    return (*served.Status())["cache"]["segments"].get<int>();
  };
  const int before = segments();
  EXPECT_THAT(served.Control("grow"), Succeeds());
  EXPECT_EQ(segments(), before);
  ASSERT_EQ(truncate(served.cache().c_str(), 128 * kMiB), 0);

  const Outcome grown = served.Control("grow", {"--json"});

  ASSERT_THAT(grown, Succeeds());
  EXPECT_EQ(nlohmann::json::parse(grown.out)["added"].get<int>(), 64);
  EXPECT_EQ(segments(), before + 64);
  EXPECT_THAT(served.Control("set", {"disk", "image_cache_size=120M"}),
              Succeeds());
  EXPECT_EQ((*served.ImageStatus())["cache_segs"].get<int>(), 120);
  ASSERT_THAT(WritePattern(served.image(), 2, 0, 110 * kMiB), IsOk());
  ASSERT_THAT(served.Stop(), IsOk());
  ASSERT_EQ(truncate(served.cache().c_str(), 160 * kMiB), 0);
  ASSERT_THAT(served.Start(), IsOk());
  EXPECT_EQ(segments(), before + 96);
  EXPECT_THAT(CheckPattern(served.image(), 2, 0, 110 * kMiB), IsOk());
}

TEST(ResizeTest, ShareMakesRoomForAnotherImage) {
  ServedCache served({.backing_size = 128 * kMiB});
  const std::string other = served.directory().File("other.img");
  MakeFile(other, 32 * kMiB);
  ASSERT_THAT(served.Start(), IsOk());
  ASSERT_THAT(WritePattern(served.image(), 1, 0, 128 * kMiB), IsOk());

  // Nobody has asked for how much the first one has.
  ASSERT_THAT(served.Control("attach", {"other", other}), Succeeds());

  const auto status = served.Status();
  ASSERT_THAT(status, IsOk());
  EXPECT_NEAR((*status)["images"][0]["cache_segs"].get<int>(),
              (*status)["images"][1]["cache_segs"].get<int>(), 1);
  ASSERT_THAT(served.Control("set", {"disk", "image_cache_size=32M"}),
              Succeeds());
  ASSERT_THAT(WritePattern(served.mount() + "/other", 2, 0, 32 * kMiB),
              IsOk());
  EXPECT_THAT(CheckPattern(served.image(), 1, 0, 128 * kMiB), IsOk());
  EXPECT_THAT(served.Control("attach", {"more", other,
                                        "--image_cache_size=1T"}),
              RefusesWith(1, HasSubstr("other")));
  EXPECT_THAT(served.Control("set", {"disk", "image_cache_size=1T"}),
              RefusesWith(1, HasSubstr("at most")));
  EXPECT_THAT(served.Control("set", {"disk", "image_cache_size=much"}),
              RefusesWith(2, HasSubstr("image_cache_size")));
}

TEST(ManyImagesTest, SixtyFourOnOneCache) {
  constexpr int kImages = 64;
  ServedCache served({.backing_size = 4 * kMiB,
                      .cache_size = "520M",
                      .flags = {"--segment_size=1M", "--image_cache_size=8M"}});
  const auto backing = [&](int i) {
    return served.directory().File(absl::StrCat("b", i));
  };
  const auto image = [&](int i) { return absl::StrCat(served.mount(), "/i", i); };
  ASSERT_THAT(served.Start(), IsOk());
  for (int i = 1; i < kImages; ++i) {
    MakeFile(backing(i), 4 * kMiB);
    ASSERT_THAT(served.Control("attach", {absl::StrCat("i", i), backing(i)}),
                Succeeds());
  }
  for (int i = 1; i < kImages; ++i) {
    ASSERT_THAT(WritePattern(image(i), i, 0, 4 * kMiB), IsOk());
  }
  const std::string memory =
      ContentOf(absl::StrCat("/proc/", served.pid(), "/status"));
  for (const char* key : {"VmRSS", "Threads"}) {
    const size_t at = memory.find(key);
    std::cout << memory.substr(at, memory.find('\n', at) - at) << "\n";
  }
  ASSERT_THAT(served.Stop(), IsOk());
  ASSERT_THAT(served.Start(), IsOk());
  for (int i = 1; i < kImages; ++i) {
    ASSERT_THAT(CheckPattern(image(i), i, 0, 4 * kMiB), IsOk());
  }
  ASSERT_THAT(served.Control("drain"), Succeeds());
  for (int i = 1; i < kImages; ++i) {
    ASSERT_THAT(CheckPattern(backing(i), i, 0, 4 * kMiB), IsOk());
  }
}

}  // namespace
}  // namespace pcachefs
