// What an append to the key log costs: one key for 4 KiB written, and sets of
// many keys, to a cache in memory.
//
//   bazel run -c opt //test/bench/micro:log_benchmark

#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "benchmark/benchmark.h"
#include "core/barrier.h"
#include "core/image_space.h"
#include "core/key_log.h"
#include "core/segment_table.h"
#include "core/slot_store.h"
#include "glog/logging.h"
#include "iobackend/cache_device.h"
#include "iobackend/open_device.h"
#include "meta/geometry.h"
#include "meta/key_set.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

constexpr ImageTag kTag(77);
constexpr uint64_t kDeviceSize = 512 * kMiB;

// A cache device that holds nothing but one log.
class LogOnTmpfs {
 public:
  LogOnTmpfs() : geometry_(*Geometry::ForDevice(kDeviceSize, 16 * kMiB)) {
    CHECK(mkdtemp(directory_.data()) != nullptr);
    auto opened =
        OpenCacheDevice(directory_ + "/cache", {.create_size = kDeviceSize});
    CHECK(opened.ok()) << opened.status();
    device_ = std::move(opened->device);
    Reset();
  }
  ~LogOnTmpfs() { std::filesystem::remove_all(directory_); }

  KeyLog& log() { return *log_; }

  // An empty log, in segments whose memory is there already.
  void Reset() {
    log_.reset();
    space_.reset();
    table_.reset();
    barrier_ = std::make_unique<Barrier>(*device_);
    for (uint32_t i = 0; i < geometry_.segment_count(); ++i) {
      SlotCursor cursor;
      const SegmentId id(i);
      const absl::Status stored = StoreSlot(
          *device_, *barrier_,
          {geometry_.segment_record(id, 0), geometry_.segment_record(id, 1)},
          cursor, SegmentRecord{.generation = Generation(1)});
      CHECK(stored.ok()) << stored;
    }
    table_ = std::make_unique<SegmentTable>(*device_, geometry_, *barrier_);
    CHECK(table_->Load().ok());
    space_ = std::make_unique<ImageSpace>(*table_, ImageId(0), kTag,
                                          geometry_.segment_count());
    log_ = std::make_unique<KeyLog>(
        *device_, *space_, *barrier_, kTag,
        KeyLog::Start{.head = {.segment = *space_->TakeLog(SequenceNumber(1)),
                               .generation = Generation(1),
                               .sequence = SequenceNumber(1)},
                      .incarnation = Incarnation(4),
                      .durable = SequenceNumber(0)});
  }

 private:
  std::string directory_ = "/dev/shm/pcachefs-log-benchmark-XXXXXX";
  const Geometry geometry_;
  std::unique_ptr<CacheDevice> device_;
  std::unique_ptr<Barrier> barrier_;
  std::unique_ptr<SegmentTable> table_;
  std::unique_ptr<ImageSpace> space_;
  std::unique_ptr<KeyLog> log_;
};

// Items are keys; the argument is how many are in a set.
void BM_LogAppend(benchmark::State& state) {
  LogOnTmpfs place;
  const uint32_t checksum = 7;
  std::vector<PendingKey> keys;
  for (int64_t i = 0; i < state.range(0); ++i) {
    keys.push_back(
        {.key = {.kind = KeyKind::kWrite,
                 .range = {ImageOffset(i * 2 * kBlockSize), kBlockSize},
                 .position = {SegmentId(3), SegmentOffset(i * kBlockSize)},
                 .generation = Generation(1)},
         .checksums = {&checksum, 1}});
  }
  for (auto _ : state) {
    auto sequence = place.log().Append(keys);
    if (absl::IsResourceExhausted(sequence.status())) {
      state.PauseTiming();
      place.Reset();
      state.ResumeTiming();
    } else if (!sequence.ok()) {
      state.SkipWithError(sequence.status().ToString().c_str());
      return;
    }
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_LogAppend)->Arg(1)->Arg(16);

}  // namespace
}  // namespace pcachefs

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  // As the daemon does.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
