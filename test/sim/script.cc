#include "test/sim/script.h"

#include <cstdint>

#include "absl/time/time.h"
#include "meta/records.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

constexpr uint64_t kImageSize = kMiB;

// Answers nothing on purpose: what may fail and what not is for the fixture to
// judge.
class Script {
 public:
  explicit Script(ImageFixture& machine) : machine_(machine) {}

  void Run() {
    WriteAndFlush();
    ReadMisses();
    DiscardAndZero();
    WriteBack();
    FillSegments();
    Restart();
    WriteAndFlush();
    if (!over()) machine_.RunIdle();
  }

  void RunRoll(absl::FunctionRef<void()> rolled) {
    const SegmentId first = machine_.image().status().key_head.segment;
    while (!over() && machine_.image().status().key_head.segment == first) {
      Write(0, 2 * kBlockSize);
    }
    rolled();
    Flush();
    for (int round = 0; round < 3; ++round) {
      if (!over()) machine_.RunIdle();
      Write(0, 2 * kBlockSize);
      Flush();
    }
  }

  void RunFull() {
    machine_.disk().set_hanging(true);
    for (uint64_t at = 0; at < 5 * kMiB / 2; at += 128 * kKiB) {
      machine_.StartWrite(Bytes(at % kImageSize, 128 * kKiB));
    }
    // Discards need no payload, but room in the log.
    for (uint64_t i = 0; machine_.in_flight() == 0 && i < 60'000; ++i) {
      machine_.StartDiscard(
          Bytes(i * 7 * kSectorSize % kImageSize, kSectorSize));
    }
    machine_.StartWrite(Bytes(0, 4096));
    machine_.StartDiscard(Bytes(kImageSize / 2, 4096));
    machine_.StartRead(Bytes(kImageSize / 2, 4096));
    machine_.disk().set_hanging(false);
    machine_.Settle().IgnoreError();
    Read(0, kImageSize);
  }

  void RunModes() {
    WriteAndFlush();
    for (const CacheMode mode :
         {CacheMode::kWritethrough, CacheMode::kWritearound,
          CacheMode::kPassthrough}) {
      SetModeUnderLoad(mode);
      WriteAround();
      if (mode == CacheMode::kWritearound) Restart();
      SetModeUnderLoad(CacheMode::kWriteonly);
      Write(30 * kBlockSize, 4096);
      Flush();
      Write(31 * kBlockSize, 512);
      SetModeUnderLoad(CacheMode::kWriteback);
    }
    for (const WritebackOrder order :
         {WritebackOrder::kGrouped, WritebackOrder::kRelaxed,
          WritebackOrder::kStrict}) {
      if (!over()) machine_.SetOrder(order);
      WriteEpochs();
    }
    if (!over()) machine_.Drain().IgnoreError();
  }

 private:
  bool over() const {
    return !machine_.is_on() || machine_.cache_device().stopped() ||
           !machine_.status().ok();
  }
  void Write(uint64_t offset, uint64_t length) {
    if (!over()) machine_.Write(Bytes(offset, length)).IgnoreError();
  }
  void Read(uint64_t offset, uint64_t length) {
    if (!over()) machine_.Read(Bytes(offset, length)).IgnoreError();
  }
  void Flush() {
    if (!over()) machine_.Flush().IgnoreError();
  }

  void WriteAndFlush() {
    for (uint64_t block = 0; block < 6; ++block)
      Write(block * kBlockSize, 4096);
    Write(2 * kBlockSize, 4096);    // again
    Write(kBlockSize + 512, 1024);  // sectors
    Flush();
    Write(3 * kBlockSize + 100, 5000);  // neither sectors nor blocks
    Write(0, 512);
    Write(0, 512);
    if (over()) return;
    // Three flushes and two writes at once.
    machine_.StartWrite(Bytes(40 * kBlockSize, 8192));
    machine_.StartFlush();
    machine_.StartFlush();
    machine_.StartWrite(Bytes(41 * kBlockSize, 8192));
    machine_.StartFlush();
    machine_.Settle().IgnoreError();
  }

  void ReadMisses() {
    Read(100 * kBlockSize, 64 * kKiB);
    Read(0, 64 * kKiB);  // hits, and misses between them
    if (over()) return;
    // An overwrite beats the fill of a miss that is still under way.
    machine_.StartRead(Bytes(120 * kBlockSize, 16 * kKiB));
    machine_.StartRead(Bytes(121 * kBlockSize, 16 * kKiB));
    machine_.StartWrite(Bytes(121 * kBlockSize, 4096));
    machine_.Settle().IgnoreError();
    Read(120 * kBlockSize, 16 * kKiB);
  }

  void DiscardAndZero() {
    if (over()) return;
    machine_.Discard(Bytes(4 * kBlockSize, 4 * kBlockSize)).IgnoreError();
    if (over()) return;
    machine_.Zero(Bytes(121 * kBlockSize + 512, 1024)).IgnoreError();
    Write(5 * kBlockSize, 4096);  // into the hole
    if (over()) return;
    machine_.Discard(Bytes(100 * kBlockSize + 10, 5000)).IgnoreError();
    Flush();
    Read(0, 64 * kKiB);
  }

  void WriteBack() {
    // The first half of an epoch is written back while the second arrives.
    Write(60 * kBlockSize, 8192);
    if (!over()) machine_.clock().Advance(absl::Seconds(2));
    for (int i = 0; i < 40 && !over(); ++i) machine_.Pump();
    Write(61 * kBlockSize, 8192);
    Flush();
    Write(60 * kBlockSize, 4096);
    if (!over()) machine_.RunIdle();
  }

  void SetModeUnderLoad(CacheMode mode) {
    if (over()) return;
    machine_.StartWrite(Bytes(20 * kBlockSize, 4096));
    machine_.StartSetMode(mode);
    machine_.StartWrite(Bytes(20 * kBlockSize, 4096));
    for (int i = 0; i < 10 && !over(); ++i) machine_.Pump();
    if (over()) return;
    machine_.StartWrite(Bytes(21 * kBlockSize, 1024));
    machine_.StartRead(Bytes(20 * kBlockSize, 8192));
    machine_.StartFlush();
    machine_.Settle().IgnoreError();
  }

  void WriteAround() {
    Read(0, 16 * kBlockSize);
    Write(2 * kBlockSize, 4096);    // cached
    Write(2 * kBlockSize, 512);     // a part of it
    Write(200 * kBlockSize, 4096);  // never seen
    Write(3 * kBlockSize + 100, 5000);
    if (over()) return;
    machine_.StartWrite(Bytes(4 * kBlockSize, 8192));
    machine_.StartWrite(Bytes(4 * kBlockSize, 8192));
    machine_.StartRead(Bytes(4 * kBlockSize, 16384));
    machine_.StartRead(Bytes(120 * kBlockSize, 8192));
    machine_.StartWrite(Bytes(121 * kBlockSize, 4096));
    machine_.Settle().IgnoreError();
    Flush();
    Read(2 * kBlockSize, 8 * kBlockSize);
    if (over()) return;
    machine_.Discard(Bytes(4 * kBlockSize + 512, 3 * kBlockSize)).IgnoreError();
    if (over()) return;
    machine_.Zero(Bytes(121 * kBlockSize, 1024)).IgnoreError();
    Write(2 * kBlockSize, 4096);
    if (!over()) machine_.RunIdle();
    Write(2 * kBlockSize, 4096);  // no flush follows
  }

  void WriteEpochs() {
    for (uint64_t i = 0; i < 5; ++i) {
      Write((i % 2) * kBlockSize, 8192);
      Write((10 + i) * kBlockSize, 4096);
      Flush();
    }
    Write(0, 4096);
    for (int i = 0; i < 20 && !over(); ++i) machine_.Pump();
  }

  // More than a segment of payload, so that reclaim has something to free.
  void FillSegments() {
    for (uint64_t i = 0; i < 12; ++i) {
      Write((i % 4) * 256 * kKiB, 256 * kKiB);
      if (i % 3 == 0) Flush();
    }
    if (!over()) machine_.RunIdle();
    Write(0, 4096);
    if (!over()) machine_.Drain().IgnoreError();
    Write(8 * kBlockSize, 64 * kKiB);
    if (!over()) machine_.RunIdle();
  }

  void Restart() {
    Write(7 * kBlockSize, 4096);
    if (over() || !machine_.Stop().ok()) return;
    machine_.Start(/*judge=*/false).IgnoreError();
    Read(0, 128 * kKiB);
  }

  ImageFixture& machine_;
};

}  // namespace

ImageFixture::Options ScriptMachine() {
  ImageFixture::Options options;
  options.disk.size = kImageSize;
  options.image.gc_percent = 10;
  return options;
}

void FillLogSegment(ImageFixture& machine) {
  // Each discard is one small key set. Spread over half of the image, so that
  // the oracle keeps few versions of each sector.
  constexpr uint64_t kSectors = kImageSize / 2 / kSectorSize;
  constexpr uint64_t kRoom = 3000;  // bytes left: less than the script's keys
  for (uint64_t i = 0; machine.status().ok(); ++i) {
    const LogPosition head = machine.image().status().key_head;
    if (head.offset.value() > kMiB - kRoom) break;
    machine
        .Discard(
            Bytes(kImageSize / 2 + i % kSectors * kSectorSize, kSectorSize))
        .IgnoreError();
    if (i % 1000 == 0) machine.RunIdle();
  }
  machine.RunIdle();
}

void RunScript(ImageFixture& machine) { Script(machine).Run(); }

void RunModesScript(ImageFixture& machine) { Script(machine).RunModes(); }

void RunRollScript(ImageFixture& machine, absl::FunctionRef<void()> rolled) {
  Script(machine).RunRoll(rolled);
}

ImageFixture::Options SmallestShare() {
  ImageFixture::Options options = ScriptMachine();
  options.image.cache_size = 6 * kMiB;
  options.image.gc_percent = 90;
  return options;
}

void RunFullScript(ImageFixture& machine) { Script(machine).RunFull(); }

}  // namespace pcachefs
