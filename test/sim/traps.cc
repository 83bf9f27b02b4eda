#include "test/sim/traps.h"

#include <utility>

#include "absl/time/time.h"
#include "core/image_core.h"
#include "core/image_map.h"
#include "core/image_settings.h"
#include "meta/records.h"
#include "meta/status_macros.h"
#include "meta/units.h"
#include "test/sim/power_cut_sweep.h"
#include "test/testing/image_fixture.h"

namespace pcachefs {
namespace {

constexpr uint64_t kImageSize = kMiB;

ImageFixture::Options SmallMachine() {
  ImageFixture::Options options;
  options.disk.size = kImageSize;
  // No fills: who looks at the image does not change the cache.
  options.image.mode = CacheMode::kWriteonly;
  return options;
}

// Each step lets one thing of each sort happen; nothing that waits for the
// cache device is answered.
void Run(ImageFixture& machine, int steps) {
  for (int i = 0; i < steps && !machine.cache_device().stopped(); ++i) {
    machine.disk().Step();
    machine.cache().Step();
    machine.clock().Advance(absl::Milliseconds(1));
  }
}

// The same, and the disk is at every instant what it may be.
absl::Status Watch(ImageFixture& machine, int steps) {
  for (int i = 0; i < steps; ++i) {
    Run(machine, 1);
    RETURN_IF_ERROR(machine.JudgeBacking(i));
  }
  return machine.status();
}

// The first byte after a start is written back; what comes then has to wait.
constexpr uint64_t kHardly = 1;
constexpr uint64_t kAsFastAsItGoes = 0;
absl::Status SetWritebackRate(ImageFixture& machine, uint64_t rate) {
  ImageChanges changes;
  changes.writeback_rate_ceiling = rate;
  return machine.image().Change(changes);
}

void StartWrites(ImageFixture& machine, uint64_t first_block, int count) {
  for (int i = 0; i < count; ++i) {
    machine.StartWrite(Bytes((first_block + 2 * i) * kBlockSize, kBlockSize));
  }
}

// A segment of other data than the first blocks, written back, while nobody
// completes what waits for the cache device.
void FillSegment(ImageFixture& machine) {
  for (uint64_t at = 0; at < 4; ++at) {
    machine.StartWrite(Bytes(kImageSize / 2 + at * 64 * kKiB, 256 * kKiB));
  }
  machine.StartFlush();
  Run(machine, 60);
}

// A reader copies from a segment of which everything has been overwritten, into
// the next one, and written back.
absl::Status HoldSegment(ImageFixture& machine) {
  RETURN_IF_ERROR(machine.Start(/*judge=*/false));
  machine.StartWrite(Bytes(0, 4 * kBlockSize));
  FillSegment(machine);
  machine.StartRead(Bytes(0, 4 * kBlockSize));  // nobody completes it
  machine.StartWrite(Bytes(0, 4 * kBlockSize));
  FillSegment(machine);
  FillSegment(machine);
  ImageChanges changes;
  changes.gc_percent = 0;
  return machine.image().Change(changes);
}

ImageFixture::Options SlowReaders() {
  ImageFixture::Options options = SmallMachine();
  options.cache.try_read_miss_percent = 100;
  options.disk.synchronous = true;
  options.image.cache_size = 8 * kMiB;
  options.image.gc_percent = 90;
  return options;
}

// What the reader copies from is not used again before he is done.
absl::Status ReaderIsOvertaken(uint64_t, uint64_t&) {
  ImageFixture machine(SlowReaders());
  RETURN_IF_ERROR(HoldSegment(machine));
  for (int i = 0; i < 20; ++i) FillSegment(machine);
  return machine.Settle();
}

// One round of reclaim passes a range twice, and frees only the segment of the
// newer key, since a reader holds the older one. Power goes off in it.
absl::Status CutReclaim(PowerCutSweep::Options options, uint64_t& states) {
  options.survivors = 12;
  options.nested = false;
  PowerCutSweep sweep(SlowReaders(), options);
  RETURN_IF_ERROR(HoldSegment(sweep.machine()));
  sweep.Arm();
  Run(sweep.machine(), 5);
  sweep.Disarm();
  states += sweep.states();
  RETURN_IF_ERROR(sweep.status());
  return sweep.machine().Settle();
}

absl::Status NewerKeyIsFreed(uint64_t, uint64_t& states) {
  return CutReclaim({}, states);
}

// What was freed is used again before reclaim passes the keys of its former
// life, which the log still has.
absl::Status OldKeysArePassed(uint64_t, uint64_t& states) {
  const auto work = [](ImageFixture& machine) {
    machine.disk().set_hanging(true);
    StartWrites(machine, /*first_block=*/20, 3);
    machine.StartFlush();
    Run(machine, 10);
    machine.Crash();
    RETURN_IF_ERROR(machine.Check());
    return machine.Start();
  };
  return CutReclaim({.judge = false, .work = work}, states);
}

// Several epochs are written back one after the other, and power goes off. A
// rate keeps the disk as the cut left it until it has been judged.
absl::Status EpochsAreWrittenBack(uint64_t round, uint64_t& states) {
  ImageFixture::Options options = SmallMachine();
  options.seed = round + 1;
  PowerCutSweep sweep(
      options, {.survivors = 4, .nested = false, .work = [](ImageFixture& m) {
                  RETURN_IF_ERROR(SetWritebackRate(m, kAsFastAsItGoes));
                  return Watch(m, 40);
                }});
  ImageFixture& machine = sweep.machine();
  RETURN_IF_ERROR(machine.Start(/*judge=*/false));
  machine.disk().set_hanging(true);
  for (uint64_t epoch = 0; epoch < 3; ++epoch) {
    machine.StartWrite(Bytes(0, kBlockSize));
    machine.StartWrite(Bytes((10 + 2 * epoch) * kBlockSize, kBlockSize));
    machine.StartFlush();
    Run(machine, 3);
  }
  RETURN_IF_ERROR(SetWritebackRate(machine, kHardly));
  machine.disk().set_hanging(false);
  sweep.Arm();
  RETURN_IF_ERROR(machine.Drain());  // at any rate
  sweep.Disarm();
  states += sweep.states();
  RETURN_IF_ERROR(sweep.status());
  return machine.Settle();
}

// What a start found reaches the disk before what is written after it.
absl::Status WritesFollowAStart(uint64_t round, uint64_t& states) {
  ImageFixture::Options options = SmallMachine();
  options.seed = options.disk.seed = round + 1;
  ImageFixture machine(options);
  RETURN_IF_ERROR(machine.Start(/*judge=*/false));
  RETURN_IF_ERROR(SetWritebackRate(machine, kHardly));
  StartWrites(machine, /*first_block=*/10, 4);
  machine.Crash();
  ++states;
  RETURN_IF_ERROR(machine.Start());
  StartWrites(machine, /*first_block=*/40, 4);
  machine.StartFlush();
  Run(machine, 5);
  RETURN_IF_ERROR(SetWritebackRate(machine, kAsFastAsItGoes));
  return Watch(machine, 60);
}

// What a start dropped does not come back when as much has been appended.
absl::Status LogIsOverwritten(uint64_t round, uint64_t& states) {
  ImageFixture::Options options = SmallMachine();
  options.seed = round + 1;
  ImageFixture machine(options);
  RETURN_IF_ERROR(machine.Start(/*judge=*/false));
  RETURN_IF_ERROR(machine.Write(Bytes(0, kBlockSize)));
  RETURN_IF_ERROR(machine.Flush());
  StartWrites(machine, /*first_block=*/10, 8);
  machine.CutPower(round);
  RETURN_IF_ERROR(machine.Start());
  // As long as what was dropped.
  StartWrites(machine, /*first_block=*/40, 1);
  machine.Crash();
  states += 2;
  return machine.Start();
}

// Payload that rots before it is written back, so that its range gets a mark;
// power goes off at any instant of that.
absl::Status PayloadIsLost(uint64_t, uint64_t& states) {
  constexpr uint64_t kPlace = 50 * kBlockSize;
  PowerCutSweep sweep(SmallMachine(), {.survivors = 8, .nested = false});
  ImageFixture& machine = sweep.machine();
  RETURN_IF_ERROR(machine.Start(/*judge=*/false));
  machine.set_faults_expected(true);
  // Another write is being written back meanwhile.
  machine.disk().set_hanging(true);
  RETURN_IF_ERROR(machine.Write(Bytes(0, kBlockSize)));
  RETURN_IF_ERROR(machine.Flush());
  Run(machine, 5);
  RETURN_IF_ERROR(machine.Write(Bytes(kPlace, kBlockSize)));
  RETURN_IF_ERROR(machine.Flush());
  // Until the log has the proof that this set was durable.
  for (int i = 0; i < 50; ++i) {
    machine.clock().Advance(absl::Milliseconds(100));
    Run(machine, 1);
  }
  ASSIGN_OR_RETURN(const PlaceInImage place,
                   ExplainPlace(machine.image(), ImageOffset(kPlace)));
  const Geometry& geometry = machine.image().core().table().geometry();
  machine.cache_device().FlipBit(geometry.position(place.position).value(), 3);
  machine.NotePayloadRotted(Bytes(kPlace, kBlockSize));
  machine.disk().set_hanging(false);
  sweep.Arm();
  machine.RunIdle();
  sweep.Disarm();
  states += sweep.states();
  return sweep.status();
}

// A fill that a start dropped does not count again, when the disk has been
// written to without a key.
absl::Status FillIsDropped(uint64_t, uint64_t& states) {
  ImageFixture machine(SmallMachine());
  RETURN_IF_ERROR(machine.Start(/*judge=*/false));
  RETURN_IF_ERROR(machine.SetMode(CacheMode::kWritearound));
  RETURN_IF_ERROR(machine.Read(Bytes(20 * kBlockSize, 4 * kBlockSize)));
  machine.Crash();
  RETURN_IF_ERROR(machine.Start(/*judge=*/false));
  RETURN_IF_ERROR(machine.Write(Bytes(21 * kBlockSize, kBlockSize)));
  machine.RunIdle();  // dirty_tail passes the fill
  machine.Crash();
  states += 2;
  return machine.Start();
}

constexpr Trap kTraps[] = {
    {"reader is overtaken", 1, ReaderIsOvertaken},
    {"newer key is freed", 1, NewerKeyIsFreed},
    {"old keys are passed", 1, OldKeysArePassed},
    {"epochs are written back", 3, EpochsAreWrittenBack},
    {"writes follow a start", 10, WritesFollowAStart},
    {"log is overwritten", 100, LogIsOverwritten},
    {"payload is lost", 1, PayloadIsLost},
    {"fill is dropped", 1, FillIsDropped},
};

}  // namespace

std::span<const Trap> Traps() { return kTraps; }

}  // namespace pcachefs
