#include "core/counters.h"

namespace pcachefs {

ImageStatus::Counters Counters::Snapshot() const {
  return {
      .reads = Sum(Counter::kReads),
      .read_bytes = Sum(Counter::kReadBytes),
      .read_hits = Sum(Counter::kReadHits),
      .read_partial_hits = Sum(Counter::kReadPartialHits),
      .read_misses = Sum(Counter::kReadMisses),
      .read_hit_bytes = Sum(Counter::kReadHitBytes),
      .read_miss_bytes = Sum(Counter::kReadMissBytes),
      .shared_misses = Sum(Counter::kSharedMisses),
      .writes = Sum(Counter::kWrites),
      .write_bytes = Sum(Counter::kWriteBytes),
      .write_waits = Sum(Counter::kWriteWaits),
      .discards = Sum(Counter::kDiscards),
      .discard_bytes = Sum(Counter::kDiscardBytes),
      .zeroes = Sum(Counter::kZeroes),
      .zero_bytes = Sum(Counter::kZeroBytes),
      .flushes = Sum(Counter::kFlushes),
      .commits = Sum(Counter::kCommits),
      .fills = Sum(Counter::kFills),
      .fill_bytes = Sum(Counter::kFillBytes),
      .fills_dropped = Sum(Counter::kFillsDropped),
      .writeback_bytes = Sum(Counter::kWritebackBytes),
      .writeback_batches = Sum(Counter::kWritebackBatches),
      .backing_flushes = Sum(Counter::kBackingFlushes),
      .bypasses = Sum(Counter::kBypasses),
      .bypass_bytes = Sum(Counter::kBypassBytes),
      .read_aheads = Sum(Counter::kReadAheads),
      .read_ahead_bytes = Sum(Counter::kReadAheadBytes),
      .read_ahead_used_bytes = Sum(Counter::kReadAheadUsedBytes),
      .read_ahead_wasted_bytes = Sum(Counter::kReadAheadWastedBytes),
      .payload_bytes = Sum(Counter::kPayloadBytes),
      .reclaimed_segments = Sum(Counter::kReclaimedSegments),
      .evictions = Sum(Counter::kEvictions),
      .evicted_bytes = Sum(Counter::kEvictedBytes),
      .second_lives = Sum(Counter::kSecondLives),
      .second_life_bytes = Sum(Counter::kSecondLifeBytes),
      .checksum_errors = Sum(Counter::kChecksumErrors),
      .backing_read_errors = Sum(Counter::kBackingReadErrors),
      .backing_write_errors = Sum(Counter::kBackingWriteErrors),
      .cache_errors = Sum(Counter::kCacheErrors),
  };
}

ImageStatus::Latencies Counters::Latencies() const {
  return {.read_hit = Sum(Timing::kReadHit),
          .read_miss = Sum(Timing::kReadMiss),
          .write = Sum(Timing::kWrite),
          .flush = Sum(Timing::kFlush),
          .backing_read = Sum(Timing::kBackingRead),
          .backing_write = Sum(Timing::kBackingWrite)};
}

ImageStatus::Latency Counters::Sum(Timing timing) const {
  ImageStatus::Latency sum;
  uint64_t nanoseconds = 0;
  for (const auto& stripe : stripes_) {
    const Latency& part = stripe.latencies[static_cast<size_t>(timing)];
    for (size_t i = 0; i < sum.counts.size(); ++i) {
      sum.counts[i] += part.counts[i].load(std::memory_order_relaxed);
    }
    nanoseconds += part.nanoseconds.load(std::memory_order_relaxed);
  }
  sum.sum_seconds = static_cast<double>(nanoseconds) * 1e-9;
  return sum;
}

}  // namespace pcachefs
