#include "test/sim/load.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

Machine::ImageSpec RandomImage(Random& random, size_t number, bool is_alone) {
  Machine::ImageSpec spec;
  FakeDisk::Options& disk = spec.judged.disk;
  spec.judged.name = absl::StrCat("vm", number);
  // Smaller than the cache, larger than it, and no whole number of blocks.
  disk.size = is_alone
                  ? OneOf(random, {kMiB, 4 * kMiB, 24 * kMiB, 4 * kMiB + 512})
                  : OneOf(random, {kMiB, 4 * kMiB, 8 * kMiB, 4 * kMiB + 512});
  if (random.Percent(30)) {
    disk.first_size = RoundDown(disk.size / 2, kSectorSize);
  }
  disk.seed = random.Next();
  disk.synchronous = random.Percent(20);
  disk.short_percent = OneOf(random, {0, 0, 20, 60});
  disk.block_size = OneOf(random, {512u, 4096u});
  disk.identity = absl::StrCat("ino=", number + 1, ",fsid=simulated");
  spec.judged.disk_has_content = random.Percent(70);
  spec.image.gc_percent = OneOf(random, {-1, 0, 10, 50, 90});
  if (!is_alone && random.Percent(70)) {
    spec.image.cache_size = random.Between(6, 10) * kMiB;
  }
  // Half of the images begin as most do, and many never change.
  if (random.Percent(50)) {
    spec.image.mode = RandomMode(random);
    spec.image.order = RandomOrder(random);
  }
  return spec;
}

RandomOps::Options RandomRequests(Random& random, uint64_t image_size) {
  RandomOps::Options load;
  load.image_size = image_size;
  load.writes = OneOf(random, {10, 50, 100});
  load.reads = OneOf(random, {10, 30, 100});
  load.flushes = OneOf(random, {0, 5, 20});
  load.discards = OneOf(random, {0, 5, 20});
  load.zeroes = OneOf(random, {0, 5});
  load.block_aligned = OneOf(random, {0, 50, 100});
  load.sector_aligned = (100 - load.block_aligned) / 2;
  // More than a key may have, now and then.
  load.length_max =
      OneOf(random, {8 * kKiB, 64 * kKiB, 512 * kKiB, 2 * kMiB + 4096});
  load.hot_percent = OneOf(random, {0, 50, 95});
  load.hot_length = OneOf(random, {8 * kKiB, 64 * kKiB});
  return load;
}

}  // namespace

CacheMode RandomMode(Random& random) {
  return OneOf(random, {CacheMode::kWriteback, CacheMode::kWritethrough,
                        CacheMode::kWritearound, CacheMode::kWriteonly,
                        CacheMode::kPassthrough});
}

WritebackOrder RandomOrder(Random& random) {
  return OneOf(random, {WritebackOrder::kStrict, WritebackOrder::kGrouped,
                        WritebackOrder::kRelaxed});
}

Machine::Options RandomMachine(Random& random) {
  Machine::Options options;
  options.seed = random.Next();
  const size_t images = OneOf(random, {1, 1, 2, 2, 3});
  // From 16 segments, the fewest there may be.
  options.cache.size = images == 1
                           ? OneOf(random, {18 * kMiB, 18 * kMiB, 34 * kMiB})
                           : OneOf(random, {26 * kMiB, 34 * kMiB});
  if (random.Percent(30)) {
    options.cache.first_size =
        std::max<uint64_t>(18 * kMiB, options.cache.size - 6 * kMiB);
  }
  options.cache.seed = random.Next();
  options.cache.try_read_miss_percent = OneOf(random, {0, 0, 30, 100});
  options.cache.short_percent = OneOf(random, {0, 0, 50});
  options.cache.async_reads = random.Percent(70);
  if (random.Percent(30)) {
    options.cache.atom_size = 8;
    options.cache.mapped = true;
    options.cache.persist_is_cheap = true;
  }
  options.format.segment_size = kMiB;
  options.cache_options.writeback_batch =
      OneOf(random, {64 * kKiB, kMiB, 16 * kMiB});
  options.cache_options.commit_interval =
      absl::Milliseconds(OneOf(random, {5, 50, 1000}));
  for (size_t i = 0; i < images; ++i) {
    options.images.push_back(RandomImage(random, i, images == 1));
  }
  return options;
}

Load::Load(Machine& machine, Random& random, SimulationCounts& counts)
    : machine_(machine), random_(random), counts_(counts) {
  for (size_t i = 0; i < machine_.image_count(); ++i) {
    ops_.emplace_back(
        RandomRequests(random_, machine_.image(i).reference().size()),
        random_.Split());
  }
}

void Load::Next() {
  const size_t i = random_.Below(machine_.image_count());
  if (!machine_.is_served(i)) return;
  JudgedImage& image = machine_.image(i);
  ++counts_.requests;
  const RandomOp op = ops_[i].Next();
  // Of a disk that has not grown yet.
  const uint64_t size = image.image().size();
  ImageRange range = op.range;
  if (range.offset.value() >= size) range.offset = ImageOffset(0);
  range.length = std::min(range.length, size - range.offset.value());
  switch (op.kind) {
    case RandomOp::Kind::kRead:
      return image.StartRead(range);
    case RandomOp::Kind::kWrite:
      image.StartWrite(range);
      return;
    case RandomOp::Kind::kZero:
      image.StartZero(range);
      return;
    case RandomOp::Kind::kDiscard:
      image.StartDiscard(range);
      return;
    case RandomOp::Kind::kFlush:
      return image.StartFlush();
  }
}

void Load::FillLog() {
  JudgedImage* image = machine_.AnyServed();
  if (image == nullptr || image->goes_around()) return;
  counts_.Count("log filled");
  const uint64_t left = random_.Between(500, 20'000);
  const uint64_t sectors = image->image().size() / kSectorSize;
  for (uint64_t i = 0; machine_.status().ok() && !machine_.stopped(); ++i) {
    if (image->image().status().key_head.offset.value() > kMiB - left) break;
    for (int j = 0; j < 64; ++j) {
      image->StartDiscard(
          Bytes((i * 64 + j) % sectors * kSectorSize, kSectorSize));
    }
    if (!machine_.Settle().ok()) break;
  }
}

}  // namespace pcachefs
