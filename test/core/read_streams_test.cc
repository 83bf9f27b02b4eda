// Proves who counts as a sequential reader, and what is read ahead of him.

#include "core/read_streams.h"

#include <cstdint>

#include "gtest/gtest.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

constexpr uint64_t kEnd = uint64_t{1} << 40;
constexpr uint64_t kAny = kEnd;

class ReadStreamsTest : public testing::Test {
 protected:
  ReadStreams::Stream Miss(uint64_t offset, uint64_t length,
                           uint64_t max_window = 2 * kMiB,
                           uint64_t max_length = kAny) {
    return streams_.OnMiss({ImageOffset(offset), length}, image_size_,
                           max_window, max_length);
  }

  uint64_t image_size_ = kEnd;
  ReadStreams streams_;
};

TEST_F(ReadStreamsTest, ThirdReadInARowIsSequential) {
  EXPECT_TRUE(Miss(0, 64 * kKiB).window.empty());
  EXPECT_TRUE(Miss(64 * kKiB, 64 * kKiB).window.empty());

  const ReadStreams::Stream stream = Miss(128 * kKiB, 64 * kKiB);

  EXPECT_EQ(stream.window, (ImageRange{ImageOffset(192 * kKiB), 128 * kKiB}));
  EXPECT_EQ(stream.length, 192 * kKiB);
}

TEST_F(ReadStreamsTest, WindowsGrowToTheLargest) {
  uint64_t at = 0;
  for (int i = 0; i < 2; ++i, at += 4096) Miss(at, 4096);
  for (const uint64_t want : {128, 256, 512, 512}) {
    const ReadStreams::Stream stream = Miss(at, 4096, 512 * kKiB);
    EXPECT_EQ(stream.window.offset.value(), at + 4096);
    EXPECT_EQ(stream.window.end().value() % kBlockSize, 0u);
    EXPECT_LE(stream.window.length, want * kKiB);
    EXPECT_GT(stream.window.length, want * kKiB - kBlockSize);
    at = stream.window.end().value();
  }
}

TEST_F(ReadStreamsTest, NothingIsReadBeyondTheEnd) {
  image_size_ = 300 * kKiB;
  Miss(0, 64 * kKiB);
  Miss(64 * kKiB, 64 * kKiB);
  EXPECT_EQ(Miss(128 * kKiB, 64 * kKiB).window.end().value(), 300 * kKiB);
  EXPECT_TRUE(Miss(236 * kKiB, 64 * kKiB).window.empty());
}

TEST_F(ReadStreamsTest, RandomReadsAreNoStream) {
  uint64_t at = 12345;
  for (int i = 0; i < 10'000; ++i) {
    at = at * 6364136223846793005 + 1442695040888963407;
    const ReadStreams::Stream stream = Miss(at % kEnd & ~4095, 4096);
    ASSERT_EQ(stream.length, 4096u);
    ASSERT_TRUE(stream.window.empty());
  }
}

TEST_F(ReadStreamsTest, ReadsOfASmallPlaceDoNotAddUp) {
  uint64_t at = 12345;
  for (int i = 0; i < 10'000; ++i) {
    at = at * 6364136223846793005 + 1442695040888963407;
    ASSERT_LE(Miss((at >> 20) % 64 * 4096, 4096, 0).length, 64 * 4096u);
  }
}

TEST_F(ReadStreamsTest, SeveralReadersAtATime) {
  for (uint64_t i = 0; i < 20; ++i) {
    for (uint64_t reader = 0; reader < 8; ++reader) {
      const ReadStreams::Stream stream =
          Miss(reader * kGiB + i * 64 * kKiB, 64 * kKiB, 0);
      EXPECT_EQ(stream.length, (i + 1) * 64 * kKiB);
    }
  }
}

TEST_F(ReadStreamsTest, RequestsMayOvertakeEachOther) {
  for (const uint64_t i : {1, 0, 3, 2, 5, 4}) Miss(i * 64 * kKiB, 64 * kKiB, 0);
  EXPECT_EQ(Miss(6 * 64 * kKiB, 64 * kKiB, 0).length, 4 * 64 * kKiB);
}

TEST_F(ReadStreamsTest, NoWindowBeyondTheLongestStream) {
  uint64_t at = 0;
  for (int i = 0; i < 100; ++i) {
    const ReadStreams::Stream stream = Miss(at, 64 * kKiB, kMiB, 2 * kMiB);
    at += 64 * kKiB + stream.window.length;
    EXPECT_TRUE(stream.length <= 4 * kMiB || stream.window.empty());
  }
  EXPECT_GT(Miss(at, 64 * kKiB, kMiB, 2 * kMiB).length, 4 * kMiB);
}

}  // namespace
}  // namespace pcachefs
