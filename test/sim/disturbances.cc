#include "test/sim/disturbances.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "core/cache_core.h"
#include "core/image_core.h"
#include "core/shard.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// A block of payload and what of the image it holds.
struct Block {
  uint64_t place = 0;  // on the cache device
  ImageRange range;
};

std::optional<Block> AnyBlock(ImageCore& core, bool dirty, Random& random) {
  std::optional<Block> chosen;
  uint64_t seen = 0;
  ForEachSlice({ImageOffset(0), core.size()}, [&](const ShardSlice& slice) {
    Shard& shard = core.shards()[slice.shard];
    absl::MutexLock lock(&shard.mutex);
    shard.index.Visit(
        slice.start, slice.length, [&](const KeyIndex::Piece& piece) {
          if (piece.source.kind() != PieceSource::Kind::kPayload) return;
          const uint64_t sector = random.Below(piece.length);
          const uint64_t media = piece.source.media_sector() + sector;
          const CachePosition position = core.payload().PositionOf(media);
          const uint32_t in_segment = position.offset.value() / kBlockSize;
          if (core.table().segment(position.segment).dirty(in_segment) !=
                  dirty ||
              random.Below(++seen) != 0) {
            return;
          }
          // A key begins where a block does.
          const uint64_t in_block = position.offset.value() % kBlockSize;
          const uint64_t offset =
              slice.OffsetOf(piece.start + sector).value() - in_block;
          chosen = Block{
              .place =
                  core.table().geometry().position(position).value() - in_block,
              .range = {ImageOffset(offset),
                        std::min(kBlockSize, core.size() - offset)}};
        });
  });
  return chosen;
}

}  // namespace

Disturbances::Disturbances(Machine& machine, Random& random,
                           SimulationCounts& counts)
    : machine_(machine),
      random_(random),
      counts_(counts),
      disks_fail_(random.Percent(20)),
      cache_fails_(random.Percent(15)),
      cache_fills_(random.Percent(15)),
      payload_rots_(!disks_fail_ && !cache_fails() && random.Percent(25)) {
  machine_.state().faults_expected =
      disks_fail_ || cache_fails() || payload_rots_;
}

absl::Status Disturbances::Perhaps() {
  JudgedImage* image = machine_.AnyServed();
  if (image == nullptr) return absl::OkStatus();
  if (random_.Percent(1)) {
    counts_.Count("disk hangs");
    image->disk().set_hanging(true);
  } else if (random_.Percent(10)) {
    image->disk().set_hanging(false);
    image->disk().set_full(false);
  }
  if (disks_fail_ && random_.Percent(5)) BreakDisk(image->disk());
  if (cache_fails_ && random_.Percent(3)) BreakCacheDevice();
  if (cache_fills_ && random_.Percent(3)) {
    counts_.Count("cache device full");
    machine_.cache_device().set_full(true);
  } else if (cache_fills_ && random_.Percent(5)) {
    machine_.cache_device().set_full(false);
  }
  if (payload_rots_ && random_.Percent(2)) {
    RETURN_IF_ERROR(RotPayload(random_.Percent(50)));
  }
  return machine_.status();
}

void Disturbances::Calm() {
  machine_.cache_device().ClearFaults();
  machine_.cache_device().set_full(false);
  for (size_t i = 0; i < machine_.image_count(); ++i) {
    FakeDisk& disk = machine_.image(i).disk();
    disk.ClearFaults();
    disk.set_hanging(false);
    disk.set_full(false);
  }
}

void Disturbances::BreakDisk(FakeDisk& disk) {
  switch (random_.Below(5)) {
    case 0:
      counts_.Count("disk read error");
      return disk.FailNth(FakeDisk::kRead, random_.Below(3));
    case 1:
      counts_.Count("disk write error");
      return disk.FailNth(FakeDisk::kWrite | FakeDisk::kFlush,
                          random_.Below(3));
    case 2:
      counts_.Count("disk error in a range");
      return disk.FailRange(FakeDisk::kWrite | FakeDisk::kRead,
                            random_.Below(disk.size()), 4096,
                            random_.Between(1, 5));
    case 3:
      counts_.Count("disk full");
      return disk.set_full(true);
    default:
      disk.ClearFaults();
  }
}

void Disturbances::BreakCacheDevice() {
  FakeCacheDevice& device = machine_.cache_device();
  switch (random_.Below(4)) {
    case 0:
      counts_.Count("cache device write error");
      return device.FailNth(FakeCacheDevice::kWrite, random_.Below(30));
    case 1:
      counts_.Count("cache device persist error");
      return device.FailNth(FakeCacheDevice::kPersist, random_.Below(3));
    case 2:
      counts_.Count("cache device read error");
      return device.FailNth(FakeCacheDevice::kRead, random_.Below(10));
    default:
      // Less often than what makes the core give data up.
      counts_.Count("cache device read error");
      return device.FailRange(FakeCacheDevice::kRead,
                              random_.Below(device.size()), 64 * kKiB,
                              random_.Between(1, 4));
  }
}

absl::Status Disturbances::RotPayload(bool dirty) {
  // From memory writeback lends the payload itself to the disk, after it was
  // verified: what rots from then on nobody can tell.
  if (dirty && machine_.cache_device().atom_size() < kSectorSize) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(machine_.Settle());
  // A disk that hangs keeps data dirty. Damage is told from a torn end of the
  // log once an idle log has its proof (docs/crash_consistency.md).
  if (dirty) {
    for (size_t i = 0; i < machine_.image_count(); ++i) {
      machine_.image(i).disk().set_hanging(true);
    }
  }
  machine_.RunIdle();
  JudgedImage* image = machine_.AnyServed();
  if (image != nullptr && !machine_.stopped()) {
    const std::optional<Block> block =
        AnyBlock(image->image().core(), dirty, random_);
    if (block) {
      counts_.Count(dirty ? "dirty payload rots" : "clean payload rots");
      machine_.set_payload_rotted();
      machine_.cache_device().FlipBit(block->place + random_.Below(kBlockSize),
                                      static_cast<int>(random_.Below(8)));
      if (dirty) image->reference().Damage(block->range);
    }
  }
  return machine_.Settle();
}

absl::Status Disturbances::RotRecords() {
  counts_.Count("record rots");
  const uint64_t seed = random_.Next();
  auto copy = machine_.Fork(seed);
  random_.Percent(50) ? copy->CutPower(seed) : copy->Crash();
  auto records = ReadDeviceRecords(copy->cache_device());
  RETURN_IF_ERROR(records.status());
  const uint64_t end = records->geometry.position({}).value();
  const uint64_t place = random_.Below(end);
  copy->cache_device().FlipBit(place, static_cast<int>(random_.Below(8)));
  copy->set_records_rotted();
  copy->Start().IgnoreError();
  const absl::Status status = copy->status();
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat("a bit of the records at ", place,
                                   " rotted: ", std::string(status.message())));
}

}  // namespace pcachefs
