// Second life: clean payload that was hit since it was written goes to the head
// of the log again when reclaim meets it, instead of being dropped.
//
// A move is a fill with the bytes that are there already, so whatever a crash
// keeps of it is right: the old key, the new one, both (they say the same), or
// neither, which is a miss. The copy starts without marks: it must be hit again
// to be kept once more. Bounded, so that reclaim always gains.

#ifndef PCACHEFS_CORE_SECOND_LIFE_H_
#define PCACHEFS_CORE_SECOND_LIFE_H_

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "core/image_core.h"
#include "core/key_index.h"
#include "core/publish.h"
#include "core/shard.h"
#include "meta/key_set.h"
#include "meta/types.h"

namespace pcachefs {

// Not thread-safe: belongs to reclaim.
class SecondLife {
 public:
  // `core` outlives it.
  explicit SecondLife(ImageCore& core) : core_(core) {}

  // Moves what of the key's payload is still in the index from `source` and was
  // hit. What is not moved (nothing left of the budget, writers wait, no room,
  // bad checksum, overwritten meanwhile) stays as it is, for the caller to
  // drop. Requires: the key's data is clean and its reference still held.
  void MoveHit(const Key& key, PieceSource source);

 private:
  using Ranges = absl::InlinedVector<ImageRange, 4>;

  void MoveSlice(const ShardSlice& slice, PieceSource source);
  // Parts of the slice to be moved; takes them off the budget.
  Ranges ChooseLocked(Shard& shard, const ShardSlice& slice,
                      PieceSource source)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex);
  // False if there is nothing left of the budget.
  bool Choose(ImageRange part, Ranges& chosen);
  PendingKeys Copy(const ShardSlice& slice, PieceSource source,
                   const Ranges& ranges);

  ImageCore& core_;
  // Bytes that may be moved: a part of all payload that reclaim passes.
  uint64_t budget_ = 0;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_SECOND_LIFE_H_
