// What the index costs: inserts and look-ups of scattered 4 KiB extents that do
// not merge, on one thread and on several, and the memory of an entry.
//
//   bazel run -c opt //test/bench/micro:index_benchmark

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "absl/synchronization/mutex.h"
#include "benchmark/benchmark.h"
#include "core/key_index.h"
#include "core/shard.h"
#include "meta/types.h"
#include "meta/units.h"

namespace {
// What is allocated at the moment, with the allocator's own words left out.
std::atomic<int64_t> allocated_bytes{0};
constexpr size_t kHeader = alignof(std::max_align_t);
}  // namespace

void* operator new(size_t size) {
  void* const memory = std::malloc(size + kHeader);
  if (memory == nullptr) std::abort();
  *static_cast<size_t*>(memory) = size;
  allocated_bytes.fetch_add(static_cast<int64_t>(size),
                            std::memory_order_relaxed);
  return static_cast<std::byte*>(memory) + kHeader;
}
void operator delete(void* memory) noexcept {
  if (memory == nullptr) return;
  void* const start = static_cast<std::byte*>(memory) - kHeader;
  allocated_bytes.fetch_sub(static_cast<int64_t>(*static_cast<size_t*>(start)),
                            std::memory_order_relaxed);
  std::free(start);
}
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }

namespace pcachefs {
namespace {

constexpr uint64_t kSegmentSectors = 16 * kMiB / kSectorSize;
constexpr uint64_t kExtents = 1 << 20;
constexpr uint64_t kBlockSectors = kBlockSize / kSectorSize;
// Odd, so that each extent comes once in kExtents steps.
constexpr uint64_t kStep = 736878711;

// Every other block of the image.
ImageRange Extent(uint64_t i) {
  return {ImageOffset(i * kStep % kExtents * 2 * kBlockSize), kBlockSize};
}

// As the write path does it: under the locks of the range.
void Insert(Shards& shards, uint64_t i) {
  const ImageRange range = Extent(i);
  const ShardLocks locks(shards, range);
  ForEachSlice(range, [&](const ShardSlice& slice) {
    Shard& shard = shards[slice.shard];
    shard.mutex.AssertHeld();
    shard.index.Insert(slice.start, slice.length,
                       PieceSource::Payload(i * 2 * kBlockSectors));
  });
}

uint64_t Find(Shards& shards, uint64_t i) {
  const ImageRange range = Extent(i);
  uint64_t sum = 0;
  const ShardLocks locks(shards, range);
  ForEachSlice(range, [&](const ShardSlice& slice) {
    Shard& shard = shards[slice.shard];
    shard.mutex.AssertHeld();
    shard.index.Visit(slice.start, slice.length, [&](const KeyIndex::Piece& p) {
      sum += p.source.raw();
    });
  });
  return sum;
}

std::unique_ptr<Shards> shared_shards;
bool is_full = false;

// Where in the order of extents a thread begins: threads do not meet.
uint64_t FirstOf(const benchmark::State& state) {
  return kExtents / state.threads() * state.thread_index();
}

void Fill() {
  shared_shards = std::make_unique<Shards>(kSegmentSectors);
  for (uint64_t i = 0; i < kExtents; ++i) Insert(*shared_shards, i);
  is_full = true;
}

// Stays from one benchmark to the next.
void SetUpFull(const benchmark::State&) {
  if (!is_full) Fill();
}

// A million extents into an empty index.
void BM_IndexFill(benchmark::State& state) {
  uint64_t entries = 0;
  int64_t bytes = 0;
  for (auto _ : state) {
    state.PauseTiming();
    shared_shards.reset();
    const int64_t before = allocated_bytes;
    state.ResumeTiming();
    Fill();
    entries += kExtents;
    bytes += allocated_bytes - before;
  }
  state.SetItemsProcessed(static_cast<int64_t>(entries));
  state.counters["bytes_per_entry"] =
      static_cast<double>(bytes) / static_cast<double>(entries);
}
BENCHMARK(BM_IndexFill)->Unit(benchmark::kMillisecond);

// Another place for an extent that is there: a write of what is cached.
void BM_IndexReplace(benchmark::State& state) {
  uint64_t i = FirstOf(state);
  for (auto _ : state) Insert(*shared_shards, ++i);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_IndexReplace)->Setup(SetUpFull)->ThreadRange(1, 4)->UseRealTime();

void BM_IndexFind(benchmark::State& state) {
  uint64_t i = FirstOf(state);
  for (auto _ : state) benchmark::DoNotOptimize(Find(*shared_shards, ++i));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_IndexFind)->Setup(SetUpFull)->ThreadRange(1, 4)->UseRealTime();

}  // namespace
}  // namespace pcachefs

int main(int argc, char** argv) {
  // As the daemon does.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
