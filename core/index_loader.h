// Brings what a replay decodes into the shards' indexes.
//
// Changes are gathered by shard and made many at a time, because a shard's part
// of the index fits the processor's cache and all of it does not; and by
// several threads if asked to, each with shards of its own, so that the changes
// of one shard keep their order without a lock between them.

#ifndef PCACHEFS_CORE_INDEX_LOADER_H_
#define PCACHEFS_CORE_INDEX_LOADER_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/key_index.h"
#include "core/shard.h"

namespace pcachefs {

// Used by one thread. `shards` outlives it; nobody else changes them before
// Finish() has returned.
class IndexLoader {
 public:
  // `thread_count` of its own; 0: all is done by the caller, in an order that
  // depends on nothing but the calls.
  IndexLoader(Shards& shards, uint32_t thread_count);
  // Without Finish() some of the changes are made and some are not.
  ~IndexLoader();

  // The slice is served from `source` from now on, or from the backing device.
  void Insert(const ShardSlice& slice, PieceSource source);
  void Remove(const ShardSlice& slice);

  // All changes are made when it returns. To be called once, last.
  void Finish();

 private:
  struct Change {
    uint32_t start;
    uint32_t length;
    uint64_t source;  // raw, or kRemoved
  };
  static constexpr uint64_t kRemoved = ~uint64_t{0};
  using Batch = std::vector<Change>;
  // Room to sort in, kept from batch to batch.
  struct Scratch {
    Batch sorted;
    Batch other;
  };

  // One thread and the batches that wait for it.
  struct Worker {
    absl::Mutex mutex;
    std::deque<std::pair<uint32_t, Batch>> waiting ABSL_GUARDED_BY(mutex);
    std::vector<Batch> spare ABSL_GUARDED_BY(mutex);  // empty, to be used again
    bool stopping ABSL_GUARDED_BY(mutex) = false;
    std::thread thread;
  };

  void Add(uint32_t shard, const Change& change);
  void Hand(uint32_t shard);
  void Run(Worker& worker);
  static void SortByStart(const Batch& from, Scratch& scratch);
  static void Sort(Batch& batch, Scratch& scratch);
  void Apply(uint32_t shard, Batch& batch, Scratch& scratch);

  Shards& shards_;
  std::array<Batch, kShardCount> batches_;
  Scratch scratch_;  // the caller's
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_INDEX_LOADER_H_
