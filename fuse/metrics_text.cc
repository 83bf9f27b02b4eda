#include "fuse/metrics_text.h"

#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/status.h"
#include "fuse/server_facts.h"

namespace pcachefs {
namespace {

constexpr HealthState kStates[] = {
    HealthState::kRunning, HealthState::kStalled, HealthState::kDegraded,
    HealthState::kReadOnly, HealthState::kFailed};

using Counters = ImageStatus::Counters;

struct ImageCounter {
  const char* name;
  const char* help;
  uint64_t Counters::*value;
};

constexpr ImageCounter kCounters[] = {
    {"reads_total", "Read requests.", &Counters::reads},
    {"read_bytes_total", "Bytes asked for by reads.", &Counters::read_bytes},
    {"read_hits_total", "Reads answered from the cache alone.",
     &Counters::read_hits},
    {"read_partial_hits_total", "Reads answered from the cache in part.",
     &Counters::read_partial_hits},
    {"read_misses_total", "Reads of which nothing was in the cache.",
     &Counters::read_misses},
    {"read_hit_bytes_total", "Bytes read from the cache.",
     &Counters::read_hit_bytes},
    {"read_miss_bytes_total", "Bytes read from the backing device.",
     &Counters::read_miss_bytes},
    {"shared_misses_total", "Misses answered by another one's backing read.",
     &Counters::shared_misses},
    {"writes_total", "Write requests.", &Counters::writes},
    {"write_bytes_total", "Bytes written.", &Counters::write_bytes},
    {"write_waits_total", "Writes that waited for space in the cache.",
     &Counters::write_waits},
    {"discards_total", "Discard requests.", &Counters::discards},
    {"discard_bytes_total", "Bytes discarded.", &Counters::discard_bytes},
    {"zeroes_total", "Write-zeroes requests.", &Counters::zeroes},
    {"zero_bytes_total", "Bytes zeroed by write-zeroes.",
     &Counters::zero_bytes},
    {"flushes_total", "Flush requests.", &Counters::flushes},
    {"commits_total", "Commits of the log.", &Counters::commits},
    {"fills_total", "Misses that were put into the cache.", &Counters::fills},
    {"fill_bytes_total", "Bytes put into the cache by misses.",
     &Counters::fill_bytes},
    {"fills_dropped_total", "Misses that were not put into the cache.",
     &Counters::fills_dropped},
    {"writeback_bytes_total", "Bytes written back to the backing device.",
     &Counters::writeback_bytes},
    {"writeback_batches_total", "Batches of writeback.",
     &Counters::writeback_batches},
    {"backing_flushes_total", "Flushes of the backing device.",
     &Counters::backing_flushes},
    {"bypasses_total", "Reads whose misses were not put into the cache.",
     &Counters::bypasses},
    {"bypass_bytes_total", "Bytes of misses not put into the cache by policy.",
     &Counters::bypass_bytes},
    {"read_aheads_total", "Windows read ahead of sequential readers.",
     &Counters::read_aheads},
    {"read_ahead_bytes_total", "Bytes read ahead.",
     &Counters::read_ahead_bytes},
    {"read_ahead_used_bytes_total", "Bytes read ahead that were read.",
     &Counters::read_ahead_used_bytes},
    {"read_ahead_wasted_bytes_total", "Bytes read ahead and dropped unread.",
     &Counters::read_ahead_wasted_bytes},
    {"payload_bytes_total", "Payload written to the cache device.",
     &Counters::payload_bytes},
    {"reclaimed_segments_total", "Segments reclaimed.",
     &Counters::reclaimed_segments},
    {"evictions_total", "Pieces of clean data dropped by reclaim.",
     &Counters::evictions},
    {"evicted_bytes_total", "Bytes of clean data dropped by reclaim.",
     &Counters::evicted_bytes},
    {"second_lives_total", "Pieces of clean data kept because they were hit.",
     &Counters::second_lives},
    {"second_life_bytes_total", "Bytes kept because they were hit.",
     &Counters::second_life_bytes},
    {"checksum_errors_total", "Payload or log found damaged.",
     &Counters::checksum_errors},
    {"backing_read_errors_total", "Failed reads of the backing device.",
     &Counters::backing_read_errors},
    {"backing_write_errors_total", "Failed writes to the backing device.",
     &Counters::backing_write_errors},
    {"cache_errors_total", "Failed requests to the cache device.",
     &Counters::cache_errors},
};

// One family of the format: its header once, then its samples.
class Family {
 public:
  Family(std::string& out, absl::string_view name, absl::string_view type,
         absl::string_view help)
      : out_(out), name_(absl::StrCat("pcachefs_", name)) {
    absl::StrAppend(&out_, "# HELP ", name_, " ", help, "\n# TYPE ", name_, " ",
                    type, "\n");
  }
  template <typename Value>
  void Add(absl::string_view labels, Value value) {
    absl::StrAppend(&out_, name_);
    if (!labels.empty()) absl::StrAppend(&out_, "{", labels, "}");
    absl::StrAppend(&out_, " ", value, "\n");
  }

 private:
  std::string& out_;
  const std::string name_;
};

std::string Label(absl::string_view key, absl::string_view value) {
  return absl::StrCat(key, "=\"", EscapeLabel(value), "\"");
}

void AddServer(const CacheStatus& cache, const ServerFacts& server,
               std::string& out) {
  Family(out, "build_info", "gauge", "Versions and transport; always 1.")
      .Add(absl::StrCat(Label("version", server.version), ",",
                        Label("libfuse", server.libfuse_version), ",",
                        Label("transport", server.transport)),
           1);
  Family(out, "uptime_seconds", "gauge", "Time since the start of the daemon.")
      .Add("", server.uptime_seconds);
  Family(out, "cache_segment_size_bytes", "gauge", "Size of a segment.")
      .Add("", cache.segment_size);
  Family(out, "cache_segments", "gauge", "Segments of the cache device.")
      .Add("", cache.segments);
  Family(out, "cache_segments_used", "gauge", "Segments in use.")
      .Add("", cache.segments_used);
  const FailoverFacts& failover = server.failover;
  Family(out, "restarts_total", "counter",
         "Daemons that died and were succeeded, with failover.")
      .Add("", failover.restarts);
  Family(out, "upgrades_total", "counter",
         "Hand-overs to another program, with failover.")
      .Add("", failover.upgrades);
  Family(out, "last_pause_seconds", "gauge",
         "How long requests waited for the last successor.")
      .Add("", failover.last_pause_seconds);
  Family(out, "longest_pause_seconds", "gauge",
         "How long requests waited for a successor at most.")
      .Add("", failover.longest_pause_seconds);
  Family(out, "poisoned_requests_total", "counter",
         "Requests refused since they killed one daemon after the other.")
      .Add("", failover.poisoned_count);
  Family states(out, "cache_state", "gauge",
                "1 for the state that the cache is in.");
  for (const HealthState state : kStates) {
    states.Add(Label("state", Name(state)), cache.state == state ? 1 : 0);
  }
}

template <typename Value>
void AddGauge(const CacheStatus& cache, const char* name, const char* help,
              Value value_of, std::string& out) {
  Family family(out, name, "gauge", help);
  for (const ImageStatus& image : cache.images) {
    family.Add(Label("image", image.name), value_of(image));
  }
}

void AddImageGauges(const CacheStatus& cache, std::string& out) {
  using Image = ImageStatus;
  AddGauge(
      cache, "image_size_bytes", "Size of the image.",
      [](const Image& image) { return image.size; }, out);
  AddGauge(
      cache, "image_segments", "Segments that the image may use.",
      [](const Image& image) { return image.cache_segs; }, out);
  AddGauge(
      cache, "image_segments_used", "Segments that the image uses.",
      [](const Image& image) { return image.cache_used_segs; }, out);
  AddGauge(
      cache, "image_dirty_bytes", "Bytes not yet written back.",
      [](const Image& image) { return image.dirty_bytes; }, out);
  AddGauge(
      cache, "image_lost_bytes",
      "Bytes of dirty data that the cache device lost: reads answer an error.",
      [](const Image& image) { return image.lost_bytes; }, out);
  AddGauge(
      cache, "image_oldest_dirty_seconds", "Age of the oldest dirty data.",
      [](const Image& image) {
        return absl::ToDoubleSeconds(image.oldest_dirty);
      },
      out);
  AddGauge(
      cache, "image_cached_bytes", "Bytes of the image in the cache.",
      [](const Image& image) { return image.cached_bytes; }, out);
  AddGauge(
      cache, "image_index_entries", "Entries of the index.",
      [](const Image& image) { return image.index_entries; }, out);
  AddGauge(
      cache, "image_gc_percent", "Used share at which reclaim begins.",
      [](const Image& image) { return image.gc_percent; }, out);
}

void AddImageStates(const CacheStatus& cache, std::string& out) {
  Family states(out, "image_state", "gauge",
                "1 for the state that the image is in.");
  for (const ImageStatus& image : cache.images) {
    for (const HealthState state : kStates) {
      states.Add(absl::StrCat(Label("image", image.name), ",",
                              Label("state", Name(state))),
                 image.state == state ? 1 : 0);
    }
  }
}

void AddImageCounters(const CacheStatus& cache, std::string& out) {
  for (const ImageCounter& counter : kCounters) {
    Family family(out, counter.name, "counter", counter.help);
    for (const ImageStatus& image : cache.images) {
      family.Add(Label("image", image.name), image.counters.*counter.value);
    }
  }
}

// One histogram per image and operation, in the format's cumulative form.
struct TimedOperation {
  const char* name;
  ImageStatus::Latency ImageStatus::Latencies::*latency;
};

void AddHistogram(const CacheStatus& cache, const char* name, const char* help,
                  std::initializer_list<TimedOperation> operations,
                  std::string& out) {
  absl::StrAppend(&out, "# HELP pcachefs_", name, " ", help,
                  "\n# TYPE pcachefs_", name, " histogram\n");
  for (const ImageStatus& image : cache.images) {
    for (const TimedOperation& operation : operations) {
      const ImageStatus::Latency& latency =
          image.latencies.*operation.latency;
      const std::string labels =
          absl::StrCat(Label("image", image.name), ",",
                       Label("operation", operation.name));
      uint64_t count = 0;
      for (int i = 0; i < ImageStatus::Latency::kBuckets; ++i) {
        count += latency.counts[i];
        const bool is_last = i == ImageStatus::Latency::kBuckets - 1;
        const std::string bound =
            is_last ? "+Inf" : absl::StrCat(ImageStatus::Latency::Bound(i));
        absl::StrAppend(&out, "pcachefs_", name, "_bucket{", labels, ",",
                        Label("le", bound), "} ", count, "\n");
      }
      absl::StrAppend(&out, "pcachefs_", name, "_sum{", labels, "} ",
                      latency.sum_seconds, "\n", "pcachefs_", name, "_count{",
                      labels, "} ", count, "\n");
    }
  }
}

void AddLatencies(const CacheStatus& cache, std::string& out) {
  using Latencies = ImageStatus::Latencies;
  AddHistogram(cache, "request_duration_seconds",
               "Time from a request to its answer.",
               {{"read_hit", &Latencies::read_hit},
                {"read_miss", &Latencies::read_miss},
                {"write", &Latencies::write},
                {"flush", &Latencies::flush}},
               out);
  AddHistogram(cache, "backing_request_duration_seconds",
               "Time that the backing device took for a request.",
               {{"read", &Latencies::backing_read},
                {"write", &Latencies::backing_write}},
               out);
}

}  // namespace

std::string EscapeLabel(absl::string_view value) {
  return absl::StrReplaceAll(value,
                             {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}});
}

std::string MetricsText(const CacheStatus& cache, const ServerFacts& server) {
  std::string out;
  AddServer(cache, server, out);
  AddImageGauges(cache, out);
  AddImageStates(cache, out);
  AddImageCounters(cache, out);
  AddLatencies(cache, out);
  return out;
}

}  // namespace pcachefs
