#include "core/index_loader.h"

#include <array>
#include <cstddef>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>

namespace pcachefs {
namespace {

// 32 MiB of changes in all. Up to 8 GiB of cached 4 KiB blocks, in random order,
// are one batch for each shard, whose index is then filled in order.
constexpr size_t kBatch = 32 * 1024;
// Bounds memory when the workers are slower than the reader of the log.
constexpr size_t kMostWaiting = 8;

}  // namespace

// Radix sort by the lowest digit first, which keeps the order of equal places
// as a comparison of 15 levels would too, at a third of the time.
void IndexLoader::SortByStart(const Batch& from, Scratch& scratch) {
  constexpr int kDigitBits = 11;
  constexpr uint32_t kDigits = 1 << kDigitBits;
  scratch.sorted.resize(from.size());
  scratch.other.resize(from.size());
  const Batch* source = &from;
  for (int shift = 0; shift < 32; shift += kDigitBits) {
    std::array<uint32_t, kDigits> next = {};
    const auto digit = [shift](const Change& change) {
      return (change.start >> shift) % kDigits;
    };
    for (const Change& change : *source) ++next[digit(change)];
    std::exclusive_scan(next.begin(), next.end(), next.begin(), 0u);
    for (const Change& change : *source) {
      scratch.other[next[digit(change)]++] = change;
    }
    scratch.sorted.swap(scratch.other);
    source = &scratch.sorted;
  }
}

// By place, so that neighbours follow each other, and without those that a later
// one of the same range replaces; not if that would change the outcome: of two
// changes that overlap the later one wins.
void IndexLoader::Sort(Batch& batch, Scratch& scratch) {
  if (batch.empty()) return;
  SortByStart(batch, scratch);
  Batch& sorted = scratch.sorted;
  size_t kept = 0;
  for (size_t i = 1; i < sorted.size(); ++i) {
    // If any two overlap and are not of the same range, two neighbours do.
    const Change& left = sorted[kept];
    const Change& right = sorted[i];
    if (left.start == right.start && left.length == right.length) {
      sorted[kept] = right;
      continue;
    }
    if (left.start + left.length > right.start) return;
    sorted[++kept] = right;
  }
  sorted.resize(kept + 1);
  batch.swap(sorted);
}

IndexLoader::IndexLoader(Shards& shards, uint32_t thread_count)
    : shards_(shards) {
  for (uint32_t i = 0; i < thread_count; ++i) {
    workers_.push_back(std::make_unique<Worker>());
    Worker& worker = *workers_.back();
    worker.thread = std::thread([this, &worker] { Run(worker); });
  }
}

IndexLoader::~IndexLoader() {
  for (auto& worker : workers_) {
    absl::MutexLock lock(&worker->mutex);
    worker->stopping = true;
  }
  for (auto& worker : workers_) worker->thread.join();
}

void IndexLoader::Insert(const ShardSlice& slice, PieceSource source) {
  Add(slice.shard, {slice.start, slice.length, source.raw()});
}

void IndexLoader::Remove(const ShardSlice& slice) {
  Add(slice.shard, {slice.start, slice.length, kRemoved});
}

void IndexLoader::Finish() {
  for (uint32_t shard = 0; shard < kShardCount; ++shard) Hand(shard);
  for (auto& worker : workers_) {
    absl::MutexLock lock(&worker->mutex);
    worker->stopping = true;
  }
  for (auto& worker : workers_) worker->thread.join();
  workers_.clear();
}

void IndexLoader::Add(uint32_t shard, const Change& change) {
  Batch& batch = batches_[shard];
  batch.push_back(change);
  if (batch.size() == kBatch) Hand(shard);
}

void IndexLoader::Hand(uint32_t shard) {
  Batch& batch = batches_[shard];
  if (batch.empty()) return;
  if (workers_.empty()) {
    Apply(shard, batch, scratch_);
    batch.clear();
    return;
  }
  Worker& worker = *workers_[shard % workers_.size()];
  absl::MutexLock lock(&worker.mutex);
  worker.mutex.Await(absl::Condition(
      +[](Worker* worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(worker->mutex) {
        return worker->waiting.size() < kMostWaiting;
      },
      &worker));
  worker.waiting.emplace_back(shard, std::move(batch));
  batch = Batch();
  if (!worker.spare.empty()) {
    batch = std::move(worker.spare.back());
    worker.spare.pop_back();
  }
}

void IndexLoader::Run(Worker& worker) {
  Scratch scratch;
  absl::MutexLock lock(&worker.mutex);
  while (true) {
    worker.mutex.Await(absl::Condition(
        +[](Worker* worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(worker->mutex) {
          return worker->stopping || !worker->waiting.empty();
        },
        &worker));
    if (worker.waiting.empty()) return;
    auto [shard, batch] = std::move(worker.waiting.front());
    worker.waiting.pop_front();
    worker.mutex.Unlock();
    Apply(shard, batch, scratch);
    batch.clear();
    worker.mutex.Lock();
    worker.spare.push_back(std::move(batch));
  }
}

void IndexLoader::Apply(uint32_t shard, Batch& batch, Scratch& scratch) {
  Sort(batch, scratch);
  Shard& to = shards_[shard];
  absl::MutexLock lock(&to.mutex);
  for (const Change& change : batch) {
    if (change.source == kRemoved) {
      to.index.Remove(change.start, change.length);
    } else {
      to.index.Insert(change.start, change.length,
                      PieceSource::FromRaw(change.source));
    }
  }
}

}  // namespace pcachefs
