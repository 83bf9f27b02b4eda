// Carries a request for a very long range out as a chain of shorter ones, each
// begun when the one before has ended, so that a discard of 4 GiB does not keep
// others waiting.

#ifndef PCACHEFS_FUSE_PIECEWISE_H_
#define PCACHEFS_FUSE_PIECEWISE_H_

#include <cstdint>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "meta/types.h"

namespace pcachefs {

// Begins one piece; calls its argument exactly once, within the call or later
// on any thread.
using PieceOperation = absl::AnyInvocable<void(
    ImageRange piece, absl::AnyInvocable<void(absl::Status)> done)>;

// Calls `done` once: with OK after the last piece, or with the first error, and
// then no further piece is begun. Pieces end at multiples of `piece_length`.
// Returns at once if the pieces do; recursion does not grow with their number.
void RunPiecewise(ImageRange range, uint64_t piece_length,
                  PieceOperation operation,
                  absl::AnyInvocable<void(absl::Status)> done);

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_PIECEWISE_H_
