// A fixed workload that goes through every path of the cache: the thread on
// which the sweeps over power cuts and faults hang their i-th I/O.

#ifndef PCACHEFS_TEST_SIM_SCRIPT_H_
#define PCACHEFS_TEST_SIM_SCRIPT_H_

#include "absl/functional/function_ref.h"
#include "test/testing/image_fixture.h"

namespace pcachefs {

// The machine that the script fits: 1 MiB image, 16 segments of 1 MiB, early
// reclaim.
ImageFixture::Options ScriptMachine();

// Fills the log until few bytes are left in its segment, so that the script
// crosses into the next one. `machine` is on.
void FillLogSegment(ImageFixture& machine);

// Writes of all alignments, overwrites, flushes, discards, zeroes, misses with
// fills and with overwrites racing them, writeback, rollover of a payload
// segment, reclaim, a clean stop and a new start. Goes on past errors; ends
// early when a device stopped or the fixture found a violation. `machine` is
// on, and is on afterwards unless it could not start again.
void RunScript(ImageFixture& machine);

// The same for changes of mode and order, with writes around the cache in each
// mode: cached and uncached, overlapping, racing misses, of all alignments.
void RunModesScript(ImageFixture& machine);

// Short: the log goes on in another segment, and reclaim frees the one it has
// left. Comes after FillLogSegment. `rolled` is called in between.
void RunRollScript(ImageFixture& machine, absl::FunctionRef<void()> rolled);

// More than the smallest share holds is written, and the log filled, while the
// disk hangs; then it comes back, and everybody must be answered. `machine` is
// one of SmallestShare.
ImageFixture::Options SmallestShare();
void RunFullScript(ImageFixture& machine);

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_SIM_SCRIPT_H_
