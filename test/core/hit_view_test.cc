// Hits that are served from mapped memory itself: the same bytes, checks and
// counts as ReadPath has, or nothing.

#include "core/hit_view.h"

#include <cstdint>
#include <string>

#include "core/counters.h"
#include "core/image_core.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

std::string Text(const HitView& view) {
  std::string text;
  for (const HitView::Part part : view.parts()) {
    text.append(reinterpret_cast<const char*>(part.data()), part.size());
  }
  return text;
}

std::string Block(char letter) { return std::string(kBlockSize, letter); }

CoreMachine::Options Mapped() {
  CoreMachine::Options options;
  options.cache.mapped = true;
  return options;
}

class HitViewTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(machine_.Start(), IsOk());
    ASSERT_THAT(machine_.Write(0, Block('a') + Block('b')), IsOk());
    ASSERT_THAT(machine_.Write(2 * kBlockSize, Block('c')), IsOk());
  }
  HitView View(uint64_t offset, uint64_t length) {
    return machine_.image().ViewHit({ImageOffset(offset), length});
  }

  CoreMachine machine_{Mapped()};
};

TEST_F(HitViewTest, WholeBlocksPartsOfBlocksAndSeveralPieces) {
  EXPECT_EQ(Text(View(0, kBlockSize)), Block('a'));
  EXPECT_EQ(Text(View(0, 3 * kBlockSize)),
            Block('a') + Block('b') + Block('c'));
  EXPECT_EQ(Text(View(kBlockSize - 512, 1024)),
            std::string(512, 'a') + std::string(512, 'b'));
}

TEST_F(HitViewTest, IsCountedAsAHit) {
  const uint64_t hits =
      machine_.core().counters().Sum(Counter::kReadHits);
  const uint64_t bytes =
      machine_.core().counters().Sum(Counter::kReadHitBytes);
  const HitView view = View(0, 2 * kBlockSize);
  ASSERT_FALSE(view.empty());
  EXPECT_EQ(machine_.core().counters().Sum(Counter::kReadHits), hits + 1);
  EXPECT_EQ(machine_.core().counters().Sum(Counter::kReadHitBytes),
            bytes + 2 * kBlockSize);
}

TEST_F(HitViewTest, NothingOfWhatIsNotWhollyPayload) {
  ASSERT_THAT(machine_.Zero(kBlockSize, kBlockSize), IsOk());
  const uint64_t reads = machine_.core().counters().Sum(Counter::kReads);

  EXPECT_TRUE(View(0, 2 * kBlockSize).empty());               // zeroes
  EXPECT_TRUE(View(2 * kBlockSize, 2 * kBlockSize).empty());  // a miss behind
  EXPECT_TRUE(View(100 * kBlockSize, kBlockSize).empty());    // a miss
  EXPECT_TRUE(View(1, kBlockSize).empty());                   // unaligned

  EXPECT_EQ(machine_.core().counters().Sum(Counter::kReads), reads);
}

TEST_F(HitViewTest, NothingWithAWrongChecksum) {
  machine_.Corrupt(machine_.PlaceOf(kBlockSize) + 100);
  EXPECT_TRUE(View(0, 2 * kBlockSize).empty());
  EXPECT_EQ(Text(View(0, kBlockSize)), Block('a'));
}

TEST_F(HitViewTest, NothingWhereHitsAreNotUsed) {
  ASSERT_THAT(machine_.SetMode(CacheMode::kPassthrough), IsOk());
  EXPECT_TRUE(View(0, kBlockSize).empty());
}

TEST_F(HitViewTest, StaysWhileItsBytesAreOverwritten) {
  const HitView view = View(0, kBlockSize);
  ASSERT_FALSE(view.empty());
  // Several times what the cache holds: reclaim has to pass the segment.
  for (uint64_t round = 0; round < 8; ++round) {
    for (uint64_t i = 0; i < 8 * kMiB / kBlockSize; i += 16) {
      ASSERT_THAT(machine_.Write(i * kBlockSize, std::string(16 * kBlockSize,
                                                             'x')),
                  IsOk());
    }
  }
  EXPECT_EQ(Text(view), Block('a'));
  EXPECT_EQ(Text(View(0, kBlockSize)), Block('x'));
}

TEST(HitViewOfAFile, IsAlwaysEmpty) {
  CoreMachine machine;
  ASSERT_THAT(machine.Start(), IsOk());
  ASSERT_THAT(machine.Write(0, Block('a')), IsOk());
  EXPECT_TRUE(machine.image().ViewHit({ImageOffset(0), kBlockSize}).empty());
}

}  // namespace
}  // namespace pcachefs
