// Bytes behind a volatile write cache: what both simulated devices are made of.
//
// Fault model. A Write is visible at once and joins a journal of writes that
// are not durable. Persist makes a beginning of the journal durable. PowerCut
// keeps an arbitrary part of the rest: of each *atom* (512 bytes; 8 bytes for
// memory) any version that it had since it was last durable, that one
// included. So writes are torn and reordered: a later one may survive where an
// earlier one does not. An atom is never mixed, since the device or the
// processor moves it in one piece, and versions within an atom build on each
// other, since smaller writes meet in one buffer before they leave it.
//
// A power cut draws one of several styles (nothing or everything survives, a
// beginning, an end, all but one write, each atom by itself, ...), because cuts
// in the style of independent coins alone would almost never keep all of one
// write while losing all of another.

#ifndef PCACHEFS_TEST_FAKES_FAKE_MEDIA_H_
#define PCACHEFS_TEST_FAKES_FAKE_MEDIA_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "test/fakes/cow_bytes.h"
#include "test/fakes/random.h"

namespace pcachefs {

// A value that is cheap to copy: a copy is the state at that instant, which may
// be cut and explored while the original goes on. Not thread-safe.
class FakeMedia {
 public:
  FakeMedia(uint64_t size, uint32_t atom_size);

  uint64_t size() const { return visible_.size(); }
  const CowBytes& visible() const { return visible_; }
  const CowBytes& durable() const { return durable_; }

  void Write(uint64_t offset, std::span<const std::byte> bytes);
  void Zero(uint64_t offset, uint64_t length);

  // Position at the end of the journal, for PersistUpTo.
  uint64_t journal_end() const { return journal_begin_ + journal_.size(); }
  bool has_unpersisted() const { return !journal_.empty(); }
  // Makes durable what stood in the journal when journal_end() was `end`.
  void PersistUpTo(uint64_t end);
  void Persist() { PersistUpTo(journal_end()); }

  // What survives becomes visible and durable; the journal is empty.
  void PowerCut(Random& random);

  // Changes visible and durable bytes behind everybody's back.
  void FlipBit(uint64_t offset, int bit);

 private:
  struct Record {
    uint64_t offset = 0;
    uint64_t length = 0;
    std::shared_ptr<const std::vector<std::byte>> bytes;  // nullptr: zeroes
  };
  enum class Fate { kLost, kKept, kTorn };

  static void Apply(const Record& record, CowBytes& bytes);
  std::vector<Fate> DrawFates(Random& random) const;
  // Copies the atoms of `record` that survive from `rolling` to `survivors`.
  void Keep(const Record& record, Fate fate, const CowBytes& rolling,
            CowBytes& survivors, Random& random) const;

  uint32_t atom_size_;
  CowBytes visible_;
  CowBytes durable_;
  // Invariant: visible_ is durable_ with the journal applied in order.
  std::vector<Record> journal_;
  uint64_t journal_begin_ = 0;  // position of journal_[0]
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_FAKES_FAKE_MEDIA_H_
