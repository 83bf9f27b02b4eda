// Compares the index with an array of cells, one by sector: all short sequences
// of operations on a few cells, and long random ones on a stripe.

#include "core/key_index.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

#include "gtest/gtest.h"
#include "meta/types.h"
#include "test/fakes/random.h"
#include "test/testing/random_seed.h"

namespace {
// What is allocated, to see what an entry costs.
uint64_t allocated_bytes = 0;
}  // namespace

void* operator new(size_t size) {
  allocated_bytes += size;
  void* const memory = std::malloc(size);
  if (memory == nullptr) std::abort();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace pcachefs {
namespace {

constexpr uint64_t kSegmentSectors = 1 << 16;
constexpr uint64_t kNothing = ~uint64_t{0};

struct Operation {
  enum class Kind { kInsert, kRemove, kRemoveIfFrom };
  Kind kind;
  uint32_t start, length;
  PieceSource source = PieceSource::Payload(0);
};

// The model: where each cell is served from.
class Cells {
 public:
  explicit Cells(uint32_t count) : sources_(count, kNothing) {}

  void Apply(const Operation& operation) {
    for (uint32_t i = 0; i < operation.length; ++i) {
      uint64_t& cell = sources_[operation.start + i];
      const uint64_t source = operation.source.Advanced(i).raw();
      switch (operation.kind) {
        case Operation::Kind::kInsert:
          cell = source;
          break;
        case Operation::Kind::kRemove:
          cell = kNothing;
          break;
        case Operation::Kind::kRemoveIfFrom:
          if (cell == source) cell = kNothing;
          break;
      }
    }
  }

  // The pieces that an index should have: as few as possible.
  std::vector<KeyIndex::Piece> Pieces() const {
    std::vector<KeyIndex::Piece> pieces;
    for (uint32_t i = 0; i < sources_.size(); ++i) {
      if (sources_[i] == kNothing) continue;
      const PieceSource source = PieceSource::FromRaw(sources_[i]);
      if (!pieces.empty() && i % kStripeSectors != 0) {
        KeyIndex::Piece& last = pieces.back();
        const bool continues = last.start + last.length == i &&
                               last.source.kind() == source.kind() &&
                               last.source.Advanced(last.length) == source &&
                               (source.kind() != PieceSource::Kind::kPayload ||
                                source.media_sector() % kSegmentSectors != 0);
        if (continues) {
          ++last.length;
          continue;
        }
      }
      pieces.push_back({.start = i, .length = 1, .source = source});
    }
    return pieces;
  }

 private:
  std::vector<uint64_t> sources_;
};

void Apply(const Operation& operation, KeyIndex& index) {
  switch (operation.kind) {
    case Operation::Kind::kInsert:
      index.Insert(operation.start, operation.length, operation.source);
      break;
    case Operation::Kind::kRemove:
      index.Remove(operation.start, operation.length);
      break;
    case Operation::Kind::kRemoveIfFrom:
      index.RemoveIfFrom(operation.start, operation.length, operation.source);
      break;
  }
}

// True if the index is what the model says.
bool Same(const KeyIndex& index, const Cells& cells) {
  const std::vector<KeyIndex::Piece> want = cells.Pieces();
  uint64_t payload = 0;
  uint64_t lost = 0;
  size_t next = 0;
  bool same = true;
  index.VisitAll([&](const KeyIndex::Piece& piece) {
    same = same && next < want.size() && piece.start == want[next].start &&
           piece.length == want[next].length &&
           piece.source == want[next].source;
    ++next;
    if (piece.source.kind() == PieceSource::Kind::kPayload) {
      payload += piece.length;
    }
    if (piece.source.kind() == PieceSource::Kind::kLost) lost += piece.length;
  });
  return same && next == want.size() && index.piece_count() == want.size() &&
         index.payload_sectors() == payload && index.lost_sectors() == lost &&
         index.empty() == want.empty();
}

// Every operation on `cells` cells. Of payload there are two places, cell by
// cell, so that neighbours join; one has a segment's boundary in it, which no
// key crosses.
std::vector<Operation> AllOperations(uint32_t cells) {
  std::vector<Operation> all;
  for (uint32_t start = 0; start < cells; ++start) {
    for (uint32_t length = 1; start + length <= cells; ++length) {
      const PieceSource first = PieceSource::Payload(100 + start);
      const PieceSource second =
          PieceSource::Payload(2 * kSegmentSectors - 2 + start);
      using Kind = Operation::Kind;
      all.push_back({Kind::kInsert, start, length, first});
      if (second.media_sector() % kSegmentSectors + length <= kSegmentSectors) {
        all.push_back({Kind::kInsert, start, length, second});
      }
      all.push_back(
          {Kind::kInsert, start, length, PieceSource::Zero(SequenceNumber(7))});
      all.push_back({Kind::kRemove, start, length});
      all.push_back({Kind::kRemoveIfFrom, start, length, first});
      all.push_back({Kind::kRemoveIfFrom, start, length,
                     PieceSource::Zero(SequenceNumber(7))});
    }
  }
  return all;
}

uint64_t TryAll(const std::vector<Operation>& operations, int depth,
                const KeyIndex& index, const Cells& cells) {
  uint64_t wrong = 0;
  for (const Operation& operation : operations) {
    KeyIndex changed = index;
    Cells model = cells;
    Apply(operation, changed);
    model.Apply(operation);
    wrong += Same(changed, model) ? 0 : 1;
    if (depth > 1) wrong += TryAll(operations, depth - 1, changed, model);
  }
  return wrong;
}

TEST(KeyIndex, AllPairsOfOperationsOnEightCells) {
  EXPECT_EQ(TryAll(AllOperations(8), 2, KeyIndex(kSegmentSectors), Cells(8)),
            0u);
}

TEST(KeyIndex, AllTriplesOfOperationsOnFourCells) {
  EXPECT_EQ(TryAll(AllOperations(4), 3, KeyIndex(kSegmentSectors), Cells(4)),
            0u);
}

TEST(KeyIndex, AllQuadruplesOfOperationsOnTwoCells) {
  EXPECT_EQ(TryAll(AllOperations(2), 4, KeyIndex(kSegmentSectors), Cells(2)),
            0u);
}

TEST(KeyIndex, RandomOperationsOnAStripeAndItsNeighbour) {
  constexpr uint32_t kCells = 2 * kStripeSectors;
  Random random(RandomSeed());
  KeyIndex index(kSegmentSectors);
  Cells cells(kCells);
  for (int i = 0; i < 3000; ++i) {
    Operation operation = {static_cast<Operation::Kind>(random.Below(3))};
    operation.start = random.Below(kCells);
    const uint32_t in_stripe = operation.start % kStripeSectors;
    operation.length = random.Between(
        1, std::min<uint64_t>(kStripeSectors - in_stripe,
                              random.Percent(20) ? kStripeSectors : 64));
    // Few places, so that pieces join and RemoveIfFrom finds something.
    const uint64_t sequence = random.Below(3);
    operation.source =
        random.Percent(60)
            ? PieceSource::Payload(sequence * 70'000 + operation.start)
        : random.Percent(50) ? PieceSource::Zero(SequenceNumber(sequence))
                             : PieceSource::Lost(SequenceNumber(sequence));
    Apply(operation, index);
    cells.Apply(operation);
    if (i % 50 == 0) {
      ASSERT_TRUE(Same(index, cells)) << "operation " << i;
    }
  }
  EXPECT_TRUE(Same(index, cells));
}

TEST(KeyIndex, NeighboursJoinButNotAcrossSegmentsOrStripes) {
  KeyIndex index(kSegmentSectors);
  index.Insert(0, 8, PieceSource::Payload(kSegmentSectors - 8));
  index.Insert(8, 8, PieceSource::Payload(kSegmentSectors));
  EXPECT_EQ(index.piece_count(), 2u) << "the segments differ";
  index.Insert(24, 8, PieceSource::Payload(kSegmentSectors + 16));
  index.Insert(16, 8, PieceSource::Payload(kSegmentSectors + 8));
  EXPECT_EQ(index.piece_count(), 2u) << "the gap between neighbours closed";

  index.Insert(kStripeSectors - 8, 8, PieceSource::Payload(5000));
  index.Insert(kStripeSectors, 8, PieceSource::Payload(5008));
  EXPECT_EQ(index.piece_count(), 4u) << "the stripes differ";
  EXPECT_EQ(index.payload_sectors(), 48u);
}

TEST(KeyIndex, MarkersJoinOnlyIfOneKeySetPutThem) {
  KeyIndex index(kSegmentSectors);
  index.Insert(0, 8, PieceSource::Zero(SequenceNumber(1)));
  index.Insert(8, 8, PieceSource::Zero(SequenceNumber(1)));
  index.Insert(16, 8, PieceSource::Zero(SequenceNumber(2)));
  index.Insert(24, 8, PieceSource::Lost(SequenceNumber(2)));

  EXPECT_EQ(index.piece_count(), 3u);
  EXPECT_EQ(index.payload_sectors(), 0u);
}

TEST(KeyIndex, WholeStripeIsOnePiece) {
  KeyIndex index(1 << 20);
  index.Insert(kStripeSectors, kStripeSectors, PieceSource::Payload(0));

  EXPECT_EQ(index.piece_count(), 1u);
  EXPECT_EQ(index.payload_sectors(), kStripeSectors);
}

TEST(KeyIndex, VisitTrimsToTheRangeAskedFor) {
  KeyIndex index(kSegmentSectors);
  index.Insert(10, 20, PieceSource::Payload(100));
  std::vector<KeyIndex::Piece> pieces;

  index.Visit(15, 5,
              [&](const KeyIndex::Piece& piece) { pieces.push_back(piece); });
  index.Visit(0, 10,
              [&](const KeyIndex::Piece& piece) { pieces.push_back(piece); });

  ASSERT_EQ(pieces.size(), 1u);
  EXPECT_EQ(pieces[0].start, 15u);
  EXPECT_EQ(pieces[0].length, 5u);
  EXPECT_EQ(pieces[0].source, PieceSource::Payload(105));
}

TEST(KeyIndex, SourcesKeepTheirBitsInAnEntry) {
  const uint64_t far = (uint64_t{1} << 47) + 12345;  // beyond 32 bits
  for (const PieceSource source :
       {PieceSource::Payload(far), PieceSource::Zero(SequenceNumber(far)),
        PieceSource::Lost(SequenceNumber(1))}) {
    KeyIndex index(uint64_t{1} << 50);
    index.Insert(8, kStripeSectors - 8, source);
    index.VisitAll([&](const KeyIndex::Piece& piece) {
      EXPECT_EQ(piece.source, source);
      EXPECT_EQ(piece.length, kStripeSectors - 8);
    });
  }
}

TEST(KeyIndex, EntryCostsTwelveBytesAndLittleMore) {
  constexpr uint32_t kPieces = 100'000;
  KeyIndex index(kSegmentSectors);
  const uint64_t before = allocated_bytes;
  for (uint32_t i = 0; i < kPieces; ++i) {
    index.Insert(2 * i, 1, PieceSource::Payload(7 * i));
  }

  ASSERT_EQ(index.piece_count(), kPieces);
  EXPECT_LT(allocated_bytes - before, kPieces * 14);
}

}  // namespace
}  // namespace pcachefs
