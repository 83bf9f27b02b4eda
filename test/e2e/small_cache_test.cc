// A cache much smaller than the data: writers wait for writeback, reclaim frees
// what is clean, and every byte stays what was last written.

#include <fcntl.h>

#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/types/span.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr uint64_t kFirst = 1;
constexpr uint64_t kSecond = 2;

// Writes `count` blocks of the image anew, at random; tells which.
std::vector<bool> Overwrite(const ServedCache& served, int count) {
  std::vector<bool> overwritten(served.size() / kBlockSize);
  std::mt19937_64 random(20240607);
  File image(served.image(), O_WRONLY | O_DIRECT);
  Buffer block(kBlockSize);
  for (int i = 0; i < count; ++i) {
    const uint64_t index = random() % overwritten.size();
    FillPattern(block.span(), kSecond, index * kBlockSize);
    EXPECT_EQ(image.Write(index * kBlockSize, block.span()), kBlock);
    overwritten[index] = true;
  }
  EXPECT_EQ(image.Sync(), 0);
  return overwritten;
}

// The number of blocks of `path` that are not of the version they should be.
int WrongBlocks(const std::string& path, const std::vector<bool>& overwritten) {
  File file(path, O_RDONLY);
  Buffer piece(kMiB);
  int wrong = 0;
  for (uint64_t i = 0; i < overwritten.size(); ++i) {
    const uint64_t offset = i * kBlockSize;
    if (offset % kMiB == 0 &&
        file.Read(offset, piece.span()) != ssize_t{kMiB}) {
      return -1;
    }
    const auto block =
        absl::MakeConstSpan(piece.data() + offset % kMiB, size_t{kBlockSize});
    if (!HasPattern(block, overwritten[i] ? kSecond : kFirst, offset)) ++wrong;
  }
  return wrong;
}

TEST(SmallCacheTest, HalfAGigabyteThroughSixtyFourMegabytes) {
  ServedCache served({.backing_size = 512 * kMiB, .cache_size = "64M"});
  ASSERT_THAT(served.Start(), IsOk());

  ASSERT_THAT(WritePattern(served.image(), kFirst, 0, served.size()), IsOk());
  EXPECT_THAT(CheckPattern(served.image(), kFirst, 0, served.size()), IsOk());
  const std::vector<bool> overwritten = Overwrite(served, 8000);

  EXPECT_EQ(WrongBlocks(served.image(), overwritten), 0);
  ASSERT_THAT(served.Control("drain"), Succeeds());
  ASSERT_THAT(served.Stop(), IsOk());
  EXPECT_EQ(WrongBlocks(served.backing(), overwritten), 0);
}

TEST(SmallCacheTest, ContentsAreThereAfterRestartWithoutDrain) {
  ServedCache served({.backing_size = 256 * kMiB, .cache_size = "64M"});
  ASSERT_THAT(served.Start(), IsOk());
  ASSERT_THAT(WritePattern(served.image(), kFirst, 0, served.size()), IsOk());
  const std::vector<bool> overwritten = Overwrite(served, 2000);

  ASSERT_THAT(served.Stop(), IsOk());
  ASSERT_THAT(served.Start(), IsOk());

  EXPECT_EQ(WrongBlocks(served.image(), overwritten), 0);
}

TEST(SmallCacheTest, ParallelWritersGetThroughTheSmallestCache) {
  constexpr int kThreads = 8;
  ServedCache served({.backing_size = 128 * kMiB,
                      .cache_size = "18M",
                      .flags = {"--segment_size=1M"}});
  ASSERT_THAT(served.Start(), IsOk());
  const uint64_t share = served.size() / kThreads;

  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&served, share, i] {
      EXPECT_THAT(WritePattern(served.image(), kFirst, i * share, share),
                  IsOk());
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_THAT(CheckPattern(served.image(), kFirst, 0, served.size()), IsOk());
  ASSERT_THAT(served.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served.backing(), kFirst, 0, served.size()), IsOk());
}

}  // namespace
}  // namespace pcachefs
