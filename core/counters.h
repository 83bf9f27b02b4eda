// Event counters of one image. Counting takes no lock and, on a few cores, no
// shared cache line: every thread adds in a stripe of its own.

#ifndef PCACHEFS_CORE_COUNTERS_H_
#define PCACHEFS_CORE_COUNTERS_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "core/status.h"

namespace pcachefs {

enum class Counter {
  kReads, kReadBytes,
  kReadHits, kReadPartialHits, kReadMisses,
  kReadHitBytes, kReadMissBytes,
  kSharedMisses,
  kWrites, kWriteBytes, kWriteWaits,
  kDiscards, kDiscardBytes,
  kZeroes, kZeroBytes,
  kFlushes, kCommits,
  kFills, kFillBytes, kFillsDropped,
  kWritebackBytes, kWritebackBatches, kBackingFlushes,
  kBypasses, kBypassBytes,
  kReadAheads, kReadAheadBytes, kReadAheadUsedBytes, kReadAheadWastedBytes,
  kPayloadBytes,
  kReclaimedSegments,
  kEvictions, kEvictedBytes,
  kSecondLives, kSecondLifeBytes,
  kChecksumErrors,
  kBackingReadErrors, kBackingWriteErrors,
  kCacheErrors,
  kCount,  // not a counter
};

// What is timed: see ImageStatus::Latencies.
enum class Timing {
  kReadHit, kReadMiss, kWrite, kFlush,
  kBackingRead, kBackingWrite,
  kCount,  // not a timing
};

class Counters {
 public:
  void Add(Counter counter, uint64_t amount = 1) {
    stripes_[Stripe()].values[static_cast<size_t>(counter)].fetch_add(
        amount, std::memory_order_relaxed);
  }

  uint64_t Sum(Counter counter) const {
    uint64_t sum = 0;
    for (const auto& stripe : stripes_) {
      sum += stripe.values[static_cast<size_t>(counter)].load(
          std::memory_order_relaxed);
    }
    return sum;
  }

  void AddLatency(Timing timing, int64_t nanoseconds) {
    Latency& latency =
        stripes_[Stripe()].latencies[static_cast<size_t>(timing)];
    latency.counts[Bucket(nanoseconds)].fetch_add(1,
                                                  std::memory_order_relaxed);
    latency.nanoseconds.fetch_add(nanoseconds, std::memory_order_relaxed);
  }

  // Everything, as status shows it.
  ImageStatus::Counters Snapshot() const;
  ImageStatus::Latencies Latencies() const;

 private:
  static constexpr size_t kStripes = 8;
  struct Latency {
    std::array<std::atomic<uint64_t>, ImageStatus::Latency::kBuckets> counts =
        {};
    std::atomic<uint64_t> nanoseconds = 0;
  };
  struct alignas(64) Values {
    std::array<std::atomic<uint64_t>, static_cast<size_t>(Counter::kCount)>
        values = {};
    std::array<Latency, static_cast<size_t>(Timing::kCount)> latencies = {};
  };

  // Bounds are 1 us, 2 us, 4 us and so on.
  static size_t Bucket(int64_t nanoseconds) {
    const uint64_t below = nanoseconds <= 0 ? 0 : (nanoseconds - 1) / 1000;
    return std::min<size_t>(std::bit_width(below),
                            ImageStatus::Latency::kBuckets - 1);
  }
  ImageStatus::Latency Sum(Timing timing) const;

  static size_t Stripe() {
    static std::atomic<size_t> threads{0};
    thread_local const size_t stripe = threads++ % kStripes;
    return stripe;
  }

  std::array<Values, kStripes> stripes_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_COUNTERS_H_
