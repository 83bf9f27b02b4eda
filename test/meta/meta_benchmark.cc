// How fast the hot parts of meta/ are: checksums of payload, and key sets as
// the write path builds them and replay parses them.
//
//   bazel run -c opt //test/meta:meta_benchmark

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "benchmark/benchmark.h"
#include "meta/crc32c.h"
#include "meta/geometry.h"
#include "meta/key_set.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

constexpr uint64_t kImageSize = 4 * kGiB;
constexpr uint64_t kSetCount = 10000;

void BM_Crc32c(benchmark::State& state) {
  const std::vector<std::byte> bytes(state.range(0), std::byte{0x5a});
  for (auto _ : state) benchmark::DoNotOptimize(Crc32c(bytes));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Crc32c)->Arg(60)->Arg(512)->Arg(4096)->Arg(1 << 20);

void BM_Crc32cPortable(benchmark::State& state) {
  const std::vector<std::byte> bytes(state.range(0), std::byte{0x5a});
  for (auto _ : state) {
    benchmark::DoNotOptimize(crc32c_internal::ExtendPortable(0, bytes));
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Crc32cPortable)->Arg(4096);

// One set with one key for each of 4096 bytes written.
std::span<const std::byte> BuildSet(std::span<std::byte> buffer, uint64_t i) {
  const auto crc = static_cast<uint32_t>(i);
  const Key key = {
      .kind = KeyKind::kWrite,
      .range = {ImageOffset(i % 1000 * kBlockSize), kBlockSize},
      .position = {SegmentId(i % 64), SegmentOffset(i % 16 * kBlockSize)},
      .generation = Generation(3),
  };
  KeySetBuilder builder(buffer);
  if (!builder.Add(key, std::span(&crc, 1))) return {};
  KeySetHeader header;
  header.sequence = SequenceNumber(i + 1);
  header.incarnation = Incarnation(2);
  header.image = ImageTag(77);
  return builder.Seal(header);
}

void BM_BuildOneKeySet(benchmark::State& state) {
  std::vector<std::byte> buffer(64);
  uint64_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(BuildSet(buffer, i++));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_BuildOneKeySet);

// Parses a log of one-key sets and looks at every key and checksum, as replay
// does; items are keys.
void BM_ReplayOneKeySets(benchmark::State& state) {
  const Geometry geometry = *Geometry::ForDevice(10 * kGiB, 0);
  std::vector<std::byte> log(kSetCount * 64);
  for (uint64_t i = 0; i < kSetCount; ++i) {
    BuildSet(std::span<std::byte>(log).subspan(i * 64, 64), i);
  }
  for (auto _ : state) {
    std::span<const std::byte> rest = log;
    KeySetExpectation expected = {ImageTag(77), SequenceNumber(1),
                                  Incarnation(2)};
    while (!rest.empty()) {
      const auto view = KeySetView::Parse(rest, expected, geometry, kImageSize);
      if (!view.ok()) {
        state.SkipWithError("a set was not accepted");
        return;
      }
      KeySetView::Cursor cursor(*view);
      while (cursor.Next()) {
        benchmark::DoNotOptimize(cursor.key().range.offset.value() +
                                 cursor.crc(0));
      }
      rest = rest.subspan(view->header().length);
      expected.sequence += 1;
    }
  }
  state.SetItemsProcessed(state.iterations() * kSetCount);
}
BENCHMARK(BM_ReplayOneKeySets);

}  // namespace
}  // namespace pcachefs

BENCHMARK_MAIN();
