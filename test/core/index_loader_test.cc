// Compares what the loader leaves in the shards with the same changes made one
// by one, in order.

#include "core/index_loader.h"

#include <cstdint>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "core/key_index.h"
#include "core/shard.h"
#include "gtest/gtest.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/fakes/random.h"
#include "test/testing/random_seed.h"

namespace pcachefs {
namespace {

constexpr uint64_t kSegmentSectors = 1 << 15;

struct Piece {
  uint32_t shard, start, length;
  uint64_t source;
  friend bool operator==(const Piece&, const Piece&) = default;
};

std::vector<Piece> Pieces(Shards& shards) {
  std::vector<Piece> pieces;
  for (uint32_t i = 0; i < kShardCount; ++i) {
    absl::MutexLock lock(&shards[i].mutex);
    shards[i].index.VisitAll([&](const KeyIndex::Piece& piece) {
      pieces.push_back({i, piece.start, piece.length, piece.source.raw()});
    });
  }
  return pieces;
}

struct Change {
  ImageRange range;
  bool remove;
  uint64_t media_sector;
};

// The loader's result must be that of the changes one after the other.
void Compare(const std::vector<Change>& changes, uint32_t threads) {
  Shards wanted(kSegmentSectors), got(kSegmentSectors);
  IndexLoader loader(got, threads);
  for (const Change& change : changes) {
    ForEachSlice(change.range, [&](const ShardSlice& slice) {
      const PieceSource source = PieceSource::Payload(
          change.media_sector +
          (slice.offset - change.range.offset) / kSectorSize);
      Shard& shard = wanted[slice.shard];
      absl::MutexLock lock(&shard.mutex);
      if (change.remove) {
        shard.index.Remove(slice.start, slice.length);
        loader.Remove(slice);
      } else {
        shard.index.Insert(slice.start, slice.length, source);
        loader.Insert(slice, source);
      }
    });
  }
  loader.Finish();
  const std::vector<Piece> want = Pieces(wanted);
  ASSERT_FALSE(want.empty());
  EXPECT_TRUE(Pieces(got) == want)
      << want.size() << " pieces wanted, " << Pieces(got).size() << " got";
}

class IndexLoaderTest : public testing::TestWithParam<uint32_t> {};

INSTANTIATE_TEST_SUITE_P(Threads, IndexLoaderTest, testing::Values(0, 1, 3));

TEST_P(IndexLoaderTest, ManyChangesOfEqualBlocks) {
  Random random(RandomSeed());
  std::vector<Change> changes;
  for (uint64_t i = 0; i < 50000; ++i) {
    changes.push_back(
        {.range = {ImageOffset(random.Below(2000) * kBlockSize), kBlockSize},
         .remove = random.Below(10) == 0,
         .media_sector = i * 8});
  }
  Compare(changes, GetParam());
}

TEST_P(IndexLoaderTest, ChangesThatOverlapInPart) {
  Random random(RandomSeed());
  std::vector<Change> changes;
  for (uint64_t i = 0; i < 50000; ++i) {
    changes.push_back(
        {.range = {ImageOffset(random.Below(16000) * kSectorSize),
                   (1 + random.Below(40)) * kSectorSize},
         .remove = random.Below(10) == 0,
         .media_sector = i * 64});
  }
  Compare(changes, GetParam());
}

// Places that differ in any of their bits, each changed many times.
TEST_P(IndexLoaderTest, ChangesFarApart) {
  Random random(RandomSeed());
  std::vector<ImageOffset> places;
  for (int i = 0; i < 500; ++i) {
    places.push_back(
        ImageOffset(random.Below(kMaxIndexedSize / kBlockSize) * kBlockSize));
  }
  std::vector<Change> changes;
  for (uint64_t i = 0; i < 50000; ++i) {
    changes.push_back(
        {.range = {places[random.Below(places.size())], kBlockSize},
         .remove = random.Below(10) == 0,
         .media_sector = i * 8});
  }
  Compare(changes, GetParam());
}

TEST_P(IndexLoaderTest, SequentialChangesMergeAsTheyDoOneByOne) {
  std::vector<Change> changes;
  for (uint64_t i = 0; i < 30000; ++i) {
    changes.push_back({.range = {ImageOffset(i * kBlockSize), kBlockSize},
                       .remove = false,
                       .media_sector = i * 8});
  }
  Compare(changes, GetParam());
}

TEST_P(IndexLoaderTest, WithoutFinishNothingIsLeftRunning) {
  Shards shards(kSegmentSectors);
  IndexLoader loader(shards, GetParam());
  for (uint64_t i = 0; i < 10000; ++i) {
    ForEachSlice({ImageOffset(i * kBlockSize), kBlockSize},
                 [&](const ShardSlice& slice) {
                   loader.Insert(slice, PieceSource::Payload(i * 8));
                 });
  }
}

}  // namespace
}  // namespace pcachefs
