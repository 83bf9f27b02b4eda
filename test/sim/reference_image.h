// The oracle: what an image may contain, told from the requests made to it.
//
// Every write fills its range with bytes that name the write and their place,
// so that content tells which write it came from. Per sector the oracle keeps
// the versions it had; per request, when it began and ended on one clock that
// ticks at each event. Judgements:
//
// - A read returns, per sector, a version that no other acknowledged one had
//   replaced before the read began. Of writes in flight, either state.
// - After a crash of the daemon: as a read that begins now. Every acknowledged
//   write is there; of those in flight any sectors.
// - After a power cut: the survivors are a prefix of history. There is one
//   instant T, not before the last acknowledged flush began, such that every
//   write that ended acknowledged before T is there and none that began after
//   T is. Requests that were in flight at T are free, as their order in the log
//   is. Each sector gives the T it allows; all of them together must have one.
// - After a power cut where writes go around the cache: as of any disk. Each
//   sector has a version that no write replaced which ended acknowledged before
//   the last acknowledged flush began.
// - The backing device alone, at any instant (strict order): a state that a
//   plain disk could hold after a power cut. No flush F separates a write that
//   is missing from one that is there: (missing ended) < (F began) and
//   (F ended) < (present began). A survived power cut and a clean stop count as
//   flushes, since whoever reads afterwards takes what he sees as durable.
//
// Damage: bytes of the range rotted where the only copy was (dirty data on the
// cache device). From then on its sectors may be unreadable, until they are
// overwritten; what can be read is judged as ever. The backing device may lack
// such a write for good, so its order is not judged there.
//
// Discard and zero are writes of zeroes. A failed write may have happened or
// not, until it is overwritten. Equal content of several versions (zeroes) is
// any of them.

#ifndef PCACHEFS_TEST_SIM_REFERENCE_IMAGE_H_
#define PCACHEFS_TEST_SIM_REFERENCE_IMAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/sim/interval_set.h"

namespace pcachefs {

// A value: a copy is the knowledge of an instant. Not thread-safe.
class ReferenceImage {
 public:
  // Fills `out` with the bytes at `offset` of what is to be judged.
  using Reader =
      absl::FunctionRef<void(uint64_t offset, std::span<std::byte> out)>;
  using WriteId = uint32_t;
  enum class Kind { kBytes, kZeroes };

  // `size` in bytes. Initially zeroes, or what Payload gives for write 0.
  ReferenceImage(uint64_t size, Kind initial);

  uint64_t size() const { return size_; }

  // False if the outcome of a write of `range` could not be told: at an edge
  // that is not a whole sector, when another write of that sector is in flight
  // or its content is not certain.
  bool CanWrite(ImageRange range) const;
  // Requires: CanWrite(range), not empty.
  WriteId BeginWrite(ImageRange range, Kind kind);
  // The bytes that a write `id` of kind kBytes puts at `offset`.
  static void Payload(WriteId id, uint64_t offset, std::span<std::byte> out);
  void EndWrite(WriteId id, bool acknowledged);

  uint64_t BeginFlush() { return ++now_; }
  void EndFlush(uint64_t begun, bool acknowledged);

  uint64_t BeginRead() { return ++now_; }
  // Judges an answered read; DataLoss with what is wrong.
  absl::Status EndRead(uint64_t begun, ImageRange range,
                       std::span<const std::byte> bytes);

  void Damage(ImageRange range);
  // Whether a read that began then may say that the sector is lost.
  bool MayBeLost(uint64_t sector, uint64_t begun) const;
  // The same for a judgement after a restart, and that it was so; the coming
  // judgement leaves the sector out.
  bool NoteLost(uint64_t sector, bool power_was_cut);

  // Judge the whole image after a restart, and take it as it is from then on.
  // Requests that were in flight are over. DataLoss with what is wrong; the
  // object must not be used any more then.
  absl::Status JudgeDaemonCrash(Reader image);
  absl::Status JudgePowerCut(Reader image);
  absl::Status JudgePowerCutOfPlainDisk(Reader image);
  // Everything is durable. Requires: nothing in flight.
  void EndCleanStop();

  // Judge the backing device.
  absl::Status JudgeBacking(Reader backing) const;
  // Requires: nothing in flight.
  absl::Status JudgeDrained(Reader backing) const;

 private:
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();
  using Sector = std::array<std::byte, kSectorSize>;

  struct Write {
    ImageRange range;
    Kind kind = Kind::kBytes;
    uint64_t begun = 0;
    uint64_t ended = kNever;
    bool acknowledged = false;
  };
  // A state of a sector.
  struct Version {
    WriteId write = 0;
    // Not nullptr: the write covered a part of the sector only.
    std::shared_ptr<const Sector> mixed;
    // It was seen to have replaced all those before it in the list.
    bool won = false;
  };
  struct History {
    std::vector<Version> versions;  // as they began, unless seen otherwise
    uint64_t damaged = kNever;      // when, the last time
    bool is_lost = false;           // in the coming judgement
  };
  struct Flush {
    uint64_t begun = 0;
    uint64_t ended = 0;
  };
  struct Match {
    uint64_t sector = 0;
    std::vector<size_t> versions;                  // of equal content
    std::vector<IntervalSet::Interval> intervals;  // of each
  };
  // Tells which T (or flush boundaries) a version being there allows.
  using Allowed =
      absl::FunctionRef<IntervalSet::Interval(const History&, size_t version)>;

  static bool Equal(std::span<const std::byte> a, std::span<const std::byte> b);
  Sector Content(uint64_t sector, const Version& version) const;
  // Whether a whole sector is this one.
  bool Is(uint64_t sector, const Version& version,
          std::span<const std::byte> bytes) const;
  bool Certainly(const History& history, size_t later, size_t earlier) const;
  // When the first acknowledged version ended that certainly replaced this one.
  uint64_t ReplacedAt(const History& history, size_t version) const;
  std::vector<size_t> Candidates(const History& history, uint64_t begun) const;
  absl::Status ReadSector(uint64_t begun, uint64_t offset,
                          std::span<const std::byte> bytes);
  void EndAllInFlight();
  void EndJudgement();
  // As reads that began at `begun`; what is there is taken.
  absl::Status JudgeSectors(Reader image, uint64_t begun, const char* what);
  // Adopts `observed` as what the sector contains.
  void Adopt(uint64_t sector, size_t observed);

  // Calls action(sector, bytes) for every sector, checking those that were
  // never written.
  absl::Status ForEachWritten(
      Reader reader, absl::FunctionRef<absl::Status(uint64_t, const History&,
                                                    std::span<const std::byte>)>
                         action) const;
  // Which versions are there, and what all of them allow together.
  absl::StatusOr<std::vector<Match>> MatchAll(Reader reader, Allowed allowed,
                                              IntervalSet& common,
                                              const char* what) const;
  absl::Status Contradiction(const std::vector<Match>& matches,
                             const char* what) const;
  absl::Status NoVersion(uint64_t offset, std::span<const std::byte> bytes,
                         const char* what) const;
  std::string Describe(uint64_t sector) const;
  std::string Describe(WriteId id) const;
  std::string DescribeFlushes() const;

  uint64_t size_;
  uint64_t now_ = 0;
  // Everything that ended acknowledged before this began is durable.
  uint64_t durable_ = 0;
  std::vector<Write> writes_;  // by WriteId; 0 is the initial content
  std::vector<WriteId> in_flight_;
  std::vector<Flush> flushes_;  // acknowledged; what counts as one
  // By sector number; a sector without one was never written.
  absl::btree_map<uint64_t, History> histories_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_SIM_REFERENCE_IMAGE_H_
