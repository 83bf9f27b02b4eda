// Snapshots of what a cache and its images are doing, for status.json, the
// control tree and metrics. Plain values.

#ifndef PCACHEFS_CORE_STATUS_H_
#define PCACHEFS_CORE_STATUS_H_

#include <array>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "meta/records.h"
#include "meta/types.h"

namespace pcachefs {

// Worst first wins when several apply.
enum class HealthState {
  kRunning,
  kStalled,   // writers wait for space that the backing device must free
  kDegraded,  // backing device errors: writeback retries; or ranges were lost
  kReadOnly,  // writes are refused by wish
  kFailed,    // cache device failed: nothing is promised until reopened
};
const char* Name(HealthState state);

struct ImageStatus {
  std::string name;
  ImageId id;
  Uuid uuid;
  BackingIdentity identity;
  std::string backing;  // spec
  uint64_t size = 0;    // bytes
  bool read_only_backing = false;  // nothing is ever written back
  CacheMode mode = CacheMode::kWriteback;
  CacheMode next_mode = CacheMode::kWriteback;  // not mode: on its way there
  WritebackOrder order = WritebackOrder::kStrict;
  // Several epochs are on their way to the backing device at once.
  bool group_in_flight = false;
  // The backing device alone is a state that a plain disk could hold after a
  // power cut. Always so in strict order.
  bool backing_consistent = true;
  int gc_percent = 0;
  // As in the image's record; 0: none.
  uint64_t max_dirty = 0;               // bytes
  uint32_t max_dirty_age = 0;           // seconds
  uint64_t writeback_rate_floor = 0;    // bytes per second
  uint64_t writeback_rate_ceiling = 0;  // bytes per second
  uint64_t sequential_cutoff = 0;       // bytes
  HealthState state = HealthState::kRunning;
  std::string state_reason;  // empty when running

  uint32_t segment_size = 0;     // bytes
  uint32_t cache_segs = 0;       // share
  uint32_t cache_used_segs = 0;
  uint64_t dirty_bytes = 0;      // logged and not yet written back
  uint64_t lost_bytes = 0;       // dirty data was lost: reads answer an error
  uint64_t cached_bytes = 0;     // of the image, in the index
  uint64_t index_entries = 0;
  absl::Duration oldest_dirty;   // age; zero when clean
  LogPosition key_head;
  LogPosition dirty_tail;
  LogPosition key_tail;
  SequenceNumber committed;      // every key set below this is durable
  Incarnation incarnation;

  // Since the start of the daemon; operations unless named bytes.
  struct Counters {
    uint64_t reads = 0, read_bytes = 0;
    uint64_t read_hits = 0, read_partial_hits = 0, read_misses = 0;
    uint64_t read_hit_bytes = 0, read_miss_bytes = 0;
    uint64_t shared_misses = 0;  // answered by another's backing read
    uint64_t writes = 0, write_bytes = 0;
    uint64_t write_waits = 0;    // writes that had to wait for space
    uint64_t discards = 0, discard_bytes = 0;
    uint64_t zeroes = 0, zero_bytes = 0;
    uint64_t flushes = 0, commits = 0;
    uint64_t fills = 0, fill_bytes = 0, fills_dropped = 0;
    uint64_t writeback_bytes = 0, writeback_batches = 0, backing_flushes = 0;
    // Reads of which misses were not put into the cache, by policy.
    uint64_t bypasses = 0, bypass_bytes = 0;
    // Read before anyone asked; used by a reader, or dropped unused.
    uint64_t read_aheads = 0, read_ahead_bytes = 0;
    uint64_t read_ahead_used_bytes = 0, read_ahead_wasted_bytes = 0;
    uint64_t payload_bytes = 0;  // written to the cache device, padding included
    uint64_t reclaimed_segments = 0;
    uint64_t evictions = 0, evicted_bytes = 0;  // clean data that was dropped
    // Clean data that was kept since it was hit.
    uint64_t second_lives = 0, second_life_bytes = 0;
    uint64_t checksum_errors = 0;
    uint64_t backing_read_errors = 0, backing_write_errors = 0;
    uint64_t cache_errors = 0;

    // Payload that the cache device took, for each byte that users wrote or
    // misses brought; 0 before the first.
    double write_amplification() const {
      const uint64_t useful = write_bytes + fill_bytes;
      return useful == 0 ? 0 : static_cast<double>(payload_bytes) / useful;
    }
  } counters;

  // How long things took, since the start of the daemon: how many took at most
  // Bound(i) seconds, but more than Bound(i - 1); the last bucket has no bound.
  struct Latency {
    static constexpr int kBuckets = 25;
    static double Bound(int bucket) { return 1e-6 * (uint64_t{1} << bucket); }

    std::array<uint64_t, kBuckets> counts = {};
    double sum_seconds = 0;

    uint64_t count() const {
      return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
    }
    // At most this long took this part of all, 0 < part <= 1, rounded up to a
    // bound; 0 if there were none.
    double Quantile(double part) const;
  };
  struct Latencies {
    Latency read_hit, read_miss, write, flush;  // from request to answer
    Latency backing_read, backing_write;        // of one backing request
  } latencies;

  // What replay found when the image was attached.
  struct Replay {
    uint64_t key_sets = 0, keys = 0, stale_keys = 0, dropped_key_sets = 0;
    uint64_t verified_bytes = 0;
    absl::Duration duration;
  } replay;
};

// An image that the cache knows and does not serve.
struct AbsentImage {
  std::string name;
  ImageId id;
  std::string backing;  // spec
  uint64_t size = 0;    // bytes
  CacheMode mode = CacheMode::kWriteback;
  uint32_t cache_segs = 0;  // share
  // By wish: it comes back only when it is attached.
  bool is_detached = false;
  std::string reason;  // why it is not served
};

struct CacheStatus {
  std::string path;
  Uuid uuid;
  uint64_t segment_size = 0;
  uint32_t segments = 0;
  uint32_t segments_used = 0;
  bool is_volatile = false;
  HealthState state = HealthState::kRunning;
  std::string state_reason;
  std::vector<ImageStatus> images;
  std::vector<AbsentImage> absent;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_STATUS_H_
