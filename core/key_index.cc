#include "core/key_index.h"

#include <algorithm>
#include <iterator>

namespace pcachefs {

void KeyIndex::Insert(uint32_t start, uint32_t length, PieceSource source) {
  // Behind all others: the way of who fills it in order.
  Map::iterator next = pieces_.end();
  if (!pieces_.empty()) {
    const auto last = std::prev(next);
    if (last->first + last->second.length() > start) {
      next = Clear(start, start + length);
    }
  }
  Count(length, source, true);
  if (next != pieces_.begin()) {
    const auto previous = std::prev(next);
    if (Continues(previous->first, previous->second, start, source)) {
      start = previous->first;
      length += previous->second.length();
      source = previous->second.source();
      next = pieces_.erase(previous);
    }
  }
  if (next != pieces_.end() &&
      Continues(start, Packed(length, source), next->first,
                next->second.source())) {
    length += next->second.length();
    next = pieces_.erase(next);
  }
  pieces_.emplace_hint(next, start, Packed(length, source));
}

void KeyIndex::Remove(uint32_t start, uint32_t length) {
  Clear(start, start + length);
}

KeyIndex::Map::iterator KeyIndex::Clear(uint32_t start, uint32_t end) {
  auto it = pieces_.lower_bound(start);
  if (it != pieces_.begin()) {
    auto previous = std::prev(it);
    if (previous->first + previous->second.length() > start) it = previous;
  }
  while (it != pieces_.end() && it->first < end) it = Cut(it, start, end);
  return it;
}

uint32_t KeyIndex::RemoveIfFrom(uint32_t start, uint32_t length,
                                PieceSource source) {
  const uint32_t end = start + length;
  uint32_t cursor = start;
  uint32_t removed = 0;
  while (cursor < end) {
    const auto it = FirstOverlap(cursor);
    if (it == pieces_.end() || it->first >= end) break;
    const uint32_t from = std::max(cursor, it->first);
    const uint32_t to = std::min(end, it->first + it->second.length());
    const bool same = it->second.source().Advanced(from - it->first) ==
                      source.Advanced(from - start);
    if (same) {
      Remove(from, to - from);
      removed += to - from;
    }
    cursor = to;
  }
  return removed;
}

void KeyIndex::Visit(uint32_t start, uint32_t length,
                     absl::FunctionRef<void(const Piece&)> visit) const {
  const uint32_t end = start + length;
  for (auto it = FirstOverlap(start); it != pieces_.end() && it->first < end;
       ++it) {
    const uint32_t from = std::max(start, it->first);
    const uint32_t to = std::min(end, it->first + it->second.length());
    visit({.start = from,
           .length = to - from,
           .source = it->second.source().Advanced(from - it->first)});
  }
}

void KeyIndex::VisitAll(absl::FunctionRef<void(const Piece&)> visit) const {
  for (const auto& [start, packed] : pieces_) {
    visit({.start = start,
           .length = packed.length(),
           .source = packed.source()});
  }
}

KeyIndex::Map::const_iterator KeyIndex::FirstOverlap(uint32_t start) const {
  auto it = pieces_.upper_bound(start);
  if (it != pieces_.begin()) {
    auto previous = std::prev(it);
    if (previous->first + previous->second.length() > start) return previous;
  }
  return it;
}

void KeyIndex::Count(uint32_t length, PieceSource source, bool added) {
  const uint64_t change = added ? length : -uint64_t{length};
  if (source.kind() == PieceSource::Kind::kPayload) payload_sectors_ += change;
  if (source.kind() == PieceSource::Kind::kLost) lost_sectors_ += change;
}

KeyIndex::Map::iterator KeyIndex::Cut(Map::iterator it, uint32_t start,
                                      uint32_t end) {
  const uint32_t piece_start = it->first;
  const uint32_t piece_end = piece_start + it->second.length();
  const PieceSource source = it->second.source();
  const uint32_t cut_start = std::max(start, piece_start);
  const uint32_t cut_end = std::min(end, piece_end);
  Count(cut_end - cut_start, source, false);

  if (cut_start > piece_start) {
    it->second = Packed(cut_start - piece_start, source);
    ++it;
  } else {
    it = pieces_.erase(it);
  }
  if (cut_end < piece_end) {
    it = pieces_.emplace_hint(
        it, cut_end,
        Packed(piece_end - cut_end, source.Advanced(cut_end - piece_start)));
  }
  return it;
}

bool KeyIndex::Continues(uint32_t left_start, const Packed& left,
                         uint32_t right_start, PieceSource right) const {
  if (left_start + left.length() != right_start ||
      right_start % kStripeSectors == 0 ||
      left.source().kind() != right.kind() ||
      left.source().Advanced(left.length()) != right) {
    return false;
  }
  return right.kind() != PieceSource::Kind::kPayload ||
         right.media_sector() % segment_sectors_ != 0;
}

}  // namespace pcachefs
