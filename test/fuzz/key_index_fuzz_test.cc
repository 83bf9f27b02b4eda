// Feeds streams of commands to KeyIndex and compares it, after each, with an
// array of cells, one by sector.
//
// Input: commands of 8 bytes: kind, what the source is (1 byte each), start,
// length, source (2 bytes each).

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/key_index.h"
#include "meta/endian.h"
#include "meta/types.h"
#include "test/fuzz/require.h"

namespace pcachefs {
namespace {

// A few sectors on either side of where two stripes meet, and small segments:
// most commands hit each other.
constexpr uint32_t kCells = 256;
constexpr uint32_t kFirst = kStripeSectors - kCells / 2;
constexpr uint64_t kSegmentSectors = 64;
constexpr uint64_t kNothing = ~uint64_t{0};

struct Command {
  int kind;
  uint32_t start, length;  // of cells
  PieceSource source = PieceSource::Payload(0);
};

PieceSource SourceOf(uint8_t kind, uint16_t number) {
  switch (kind % 4) {
    case 0:
      return PieceSource::Zero(SequenceNumber(number % 4));
    case 1:
      return PieceSource::Lost(SequenceNumber(number % 4));
    default:
      return PieceSource::Payload(number);
  }
}

// Within one stripe, and not empty, as KeyIndex wants it; payload within one
// segment, as allocations are.
Command Read(ByteReader& reader) {
  Command command;
  command.kind = reader.Read<uint8_t>() % 3;
  const auto source_kind = reader.Read<uint8_t>();
  command.start = reader.Read<uint16_t>() % kCells;
  const uint32_t room = kCells / 2 - command.start % (kCells / 2);
  command.length = 1 + reader.Read<uint16_t>() % room;
  command.source = SourceOf(source_kind, reader.Read<uint16_t>());
  if (command.source.kind() == PieceSource::Kind::kPayload) {
    command.length = static_cast<uint32_t>(std::min<uint64_t>(
        command.length,
        kSegmentSectors - command.source.media_sector() % kSegmentSectors));
  }
  return command;
}

class Model {
 public:
  Model() { cells_.fill(kNothing); }

  // Sectors that RemoveIfFrom should remove.
  uint32_t Apply(const Command& command) {
    uint32_t removed = 0;
    for (uint32_t i = 0; i < command.length; ++i) {
      uint64_t& cell = cells_[command.start + i];
      const uint64_t source = command.source.Advanced(i).raw();
      if (command.kind == 0) {
        cell = source;
      } else if (command.kind == 1 || cell == source) {
        removed += cell == source;
        cell = kNothing;
      }
    }
    return removed;
  }

  void Compare(const KeyIndex& index) const {
    uint32_t cursor = kFirst;
    uint64_t pieces = 0;
    uint64_t payload = 0;
    index.VisitAll([&](const KeyIndex::Piece& piece) {
      Require(piece.start >= cursor, "pieces are in order and disjoint");
      Require(piece.length > 0, "no piece is empty");
      const uint32_t last = piece.start + piece.length - 1;
      Require(last < kFirst + kCells, "no piece where nothing was put");
      Require(piece.start / kStripeSectors == last / kStripeSectors,
              "no piece crosses a stripe");
      ExpectNothing(cursor, piece.start);
      for (uint32_t i = 0; i < piece.length; ++i) {
        Require(cells_[piece.start - kFirst + i] ==
                    piece.source.Advanced(i).raw(),
                "a piece is what was put there last");
      }
      if (piece.source.kind() == PieceSource::Kind::kPayload) {
        payload += piece.length;
        Require(piece.source.media_sector() / kSegmentSectors ==
                    piece.source.Advanced(piece.length - 1).media_sector() /
                        kSegmentSectors,
                "no piece crosses a segment");
      }
      cursor = last + 1;
      ++pieces;
    });
    ExpectNothing(cursor, kFirst + kCells);
    Require(pieces == index.piece_count(), "pieces are counted");
    Require(payload == index.payload_sectors(), "sectors are counted");
    Require(index.empty() == (pieces == 0), "empty is empty");
  }

  // A part of the index, as a request sees it.
  void CompareRange(const KeyIndex& index, uint32_t start,
                    uint32_t length) const {
    uint32_t cursor = kFirst + start;
    const uint32_t end = cursor + length;
    index.Visit(cursor, length, [&](const KeyIndex::Piece& piece) {
      Require(piece.start >= cursor && piece.start + piece.length <= end,
              "pieces are trimmed");
      ExpectNothing(cursor, piece.start);
      Require(cells_[piece.start - kFirst] == piece.source.raw(),
              "a trimmed piece is what was put there last");
      cursor = piece.start + piece.length;
    });
    ExpectNothing(cursor, end);
  }

 private:
  void ExpectNothing(uint32_t begin, uint32_t end) const {
    for (uint32_t at = begin; at < end; ++at) {
      Require(cells_[at - kFirst] == kNothing, "nothing is missing");
    }
  }

  std::array<uint64_t, kCells> cells_;
};

}  // namespace
}  // namespace pcachefs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pcachefs;  // NOLINT: the function must be outside
  ByteReader reader(std::as_bytes(std::span(data, size)));
  KeyIndex index(kSegmentSectors);
  Model model;
  for (size_t count = std::min<size_t>(size / 8, 512); count > 0; --count) {
    const Command command = Read(reader);
    const uint32_t start = kFirst + command.start;
    const uint32_t expected = model.Apply(command);
    if (command.kind == 0) {
      index.Insert(start, command.length, command.source);
    } else if (command.kind == 1) {
      index.Remove(start, command.length);
    } else {
      Require(index.RemoveIfFrom(start, command.length, command.source) ==
                  expected,
              "what a key still covers is removed");
    }
    model.Compare(index);
    model.CompareRange(index, command.start, command.length);
  }
  return 0;
}
