// Makes room for an image whose backing device takes no writes. What was written
// never becomes clean there, so reclaim alone would gain nothing: the log would
// only grow, however often the same block is overwritten.
//
// Carrying moves what still counts of the oldest dirty keys to the head of the
// log, as dirty keys again, and dirty_tail behind them; the rest of them was
// overwritten or discarded, and is now reclaim's, as is what was read on the way.
// Only when reclaim has nothing left to pass, and a writer waits or most of what
// will be passed is clean.
//
// The moved keys are durable before dirty_tail passes those that they stand for.
// Power before that: the old keys count, and the new ones, if they survive, say
// the same. After it: the new ones.
//
// When all of the log was carried and no writer found room the share is full of
// data that counts: writers are answered ResourceExhausted, until a part of it was
// discarded or the share has grown. Pieces smaller than a block take a whole one
// when they are carried, so an image written in such pieces is full earlier.

#ifndef PCACHEFS_CORE_CARRY_H_
#define PCACHEFS_CORE_CARRY_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/image_core.h"
#include "core/key_index.h"
#include "core/publish.h"
#include "core/shard.h"
#include "core/writeback_batch.h"
#include "meta/key_set.h"
#include "meta/types.h"

namespace pcachefs {

// Not thread-safe: belongs to who steps reclaim.
class Carry {
 public:
  // `core` outlives it.
  explicit Carry(ImageCore& core) : core_(core) {}

  // One round of a bounded size; true if anything was done. To be called when
  // reclaim had nothing to do.
  bool Step();

 private:
  // What one look at a slice found: keys to be published, and what of the
  // payload is bad.
  struct Moved {
    PendingKeys keys;
    std::vector<WritebackBatch::LostRange> lost;
  };

  void BeginRound();
  // Writers are answered that there is no room.
  void RefuseWriters();
  // Takes "full" off the state when there is room again.
  void NoteRoom();
  // Nobody waits, but what was read long ago is to make room for what is read
  // now.
  bool IsCheap();

  absl::Status CarryFrom(const LogPosition& tail);
  absl::Status CarryBatch(const LogPosition& tail, uint64_t max_bytes);
  absl::Status CarrySlice(const ShardSlice& slice, KeyKind kind,
                          PieceSource source, bool& has_published);
  absl::Status CopyPiece(ImageRange range, KeyKind kind, PieceSource source,
                         Moved& moved);
  bool Fail(const absl::Status& status);

  ImageCore& core_;
  // A round: from dirty_tail at its beginning to what was the head then.
  bool in_round_ = false;
  SequenceNumber round_end_;
  uint64_t served_before_ = 0;  // writers who had waited and were served
  // Full when there were so many dirty bytes; less than a part of a segment
  // more cannot have made enough garbage.
  bool is_full_ = false;
  uint64_t full_dirty_bytes_ = 0;
  uint32_t full_share_ = 0;
  bool has_failed_ = false;
  int unreadable_ = 0;  // failures to read the cache device, in a row
  absl::Time retry_at_ = absl::InfinitePast();
  absl::Time cheap_at_ = absl::InfinitePast();  // not before, if nobody waits
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_CARRY_H_
