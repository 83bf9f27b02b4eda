#include "fuse/status_json.h"

#include <string>

#include "absl/time/time.h"
#include "core/status.h"
#include "fuse/server_facts.h"
#include "meta/records.h"
#include "meta/types.h"
#include "nlohmann/json.hpp"

namespace pcachefs {
namespace {

Json ToJson(const LogPosition& position) {
  return {{"segment", position.segment.value()},
          {"offset", position.offset.value()},
          {"generation", position.generation.value()},
          {"sequence", position.sequence.value()}};
}

Json ToJson(const BackingIdentity& identity) {
  return {{"kind", Name(identity.kind)},
          {"size", identity.size},
          {"text", identity.text}};
}

Json ToJson(const ImageStatus::Replay& replay) {
  return {{"key_sets", replay.key_sets},
          {"keys", replay.keys},
          {"stale_keys", replay.stale_keys},
          {"dropped_key_sets", replay.dropped_key_sets},
          {"verified_bytes", replay.verified_bytes},
          {"seconds", absl::ToDoubleSeconds(replay.duration)}};
}

void AddCounters(const ImageStatus::Counters& c, Json& json) {
  json["reads"] = c.reads;
  json["read_bytes"] = c.read_bytes;
  json["read_hits"] = c.read_hits;
  json["read_partial_hits"] = c.read_partial_hits;
  json["read_misses"] = c.read_misses;
  json["read_hit_bytes"] = c.read_hit_bytes;
  json["read_miss_bytes"] = c.read_miss_bytes;
  json["shared_misses"] = c.shared_misses;
  json["writes"] = c.writes;
  json["write_bytes"] = c.write_bytes;
  json["write_waits"] = c.write_waits;
  json["discards"] = c.discards;
  json["discard_bytes"] = c.discard_bytes;
  json["zeroes"] = c.zeroes;
  json["zero_bytes"] = c.zero_bytes;
  json["flushes"] = c.flushes;
  json["commits"] = c.commits;
  json["fills"] = c.fills;
  json["fill_bytes"] = c.fill_bytes;
  json["fills_dropped"] = c.fills_dropped;
  json["writeback_bytes"] = c.writeback_bytes;
  json["writeback_batches"] = c.writeback_batches;
  json["backing_flushes"] = c.backing_flushes;
  json["bypasses"] = c.bypasses;
  json["bypass_bytes"] = c.bypass_bytes;
  json["read_aheads"] = c.read_aheads;
  json["read_ahead_bytes"] = c.read_ahead_bytes;
  json["read_ahead_used_bytes"] = c.read_ahead_used_bytes;
  json["read_ahead_wasted_bytes"] = c.read_ahead_wasted_bytes;
  json["payload_bytes"] = c.payload_bytes;
  json["write_amplification"] = c.write_amplification();
  json["reclaimed_segments"] = c.reclaimed_segments;
  json["evictions"] = c.evictions;
  json["evicted_bytes"] = c.evicted_bytes;
  json["second_lives"] = c.second_lives;
  json["second_life_bytes"] = c.second_life_bytes;
  json["checksum_errors"] = c.checksum_errors;
  json["backing_read_errors"] = c.backing_read_errors;
  json["backing_write_errors"] = c.backing_write_errors;
  json["cache_errors"] = c.cache_errors;
}

Json ToJson(const ImageStatus::Latency& latency) {
  return {{"count", latency.count()},
          {"sum_seconds", latency.sum_seconds},
          {"p50_seconds", latency.Quantile(0.5)},
          {"p99_seconds", latency.Quantile(0.99)},
          {"p999_seconds", latency.Quantile(0.999)}};
}

Json ToJson(const ImageStatus::Latencies& latencies) {
  return {{"read_hit", ToJson(latencies.read_hit)},
          {"read_miss", ToJson(latencies.read_miss)},
          {"write", ToJson(latencies.write)},
          {"flush", ToJson(latencies.flush)},
          {"backing_read", ToJson(latencies.backing_read)},
          {"backing_write", ToJson(latencies.backing_write)}};
}

Json CacheToJson(const CacheStatus& cache) {
  return {{"path", cache.path},
          {"uuid", cache.uuid.ToString()},
          {"segment_size", cache.segment_size},
          {"segments", cache.segments},
          {"segments_used", cache.segments_used},
          {"volatile", cache.is_volatile},
          {"state", Name(cache.state)},
          {"state_reason", cache.state_reason}};
}

Json ServerToJson(const ServerFacts& server) {
  return {{"pid", server.pid},
          {"mountpoint", server.mountpoint},
          {"uptime_seconds", server.uptime_seconds},
          {"transport_reason", server.transport_reason},
          {"threads", server.threads},
          {"libfuse_version", server.libfuse_version},
          {"liburing_version", server.liburing_version},
          {"io_flusher", server.is_io_flusher},
          {"memory_locked", server.is_memory_locked}};
}

Json FailoverToJson(const FailoverFacts& failover) {
  Json json = {{"enabled", failover.is_enabled},
               {"planned_only", failover.is_planned_only},
               {"supervisor_pid", failover.supervisor_pid},
               {"descriptor_store", failover.has_descriptor_store},
               {"restarts", failover.restarts},
               {"upgrades", failover.upgrades},
               {"last_pause_seconds", failover.last_pause_seconds},
               {"longest_pause_seconds", failover.longest_pause_seconds},
               {"poisoned_count", failover.poisoned_count},
               {"poisoned", Json::array()}};
  for (const FailoverFacts::PoisonedRequest& request : failover.poisoned) {
    json["poisoned"].push_back({{"opcode", request.opcode},
                                {"inode", request.inode},
                                {"offset", request.offset},
                                {"length", request.length}});
  }
  return json;
}

}  // namespace

Json ToJson(const ImageStatus& image) {
  Json json = {
      {"name", image.name},
      {"id", image.id.value()},
      {"uuid", image.uuid.ToString()},
      {"backing", image.backing},
      {"identity", ToJson(image.identity)},
      {"size", image.size},
      {"read_only_backing", image.read_only_backing},
      {"mode", Name(image.mode)},
      {"next_mode", Name(image.next_mode)},
      {"order", Name(image.order)},
      {"group_in_flight", image.group_in_flight},
      {"backing_consistent", image.backing_consistent},
      {"state", Name(image.state)},
      {"state_reason", image.state_reason},
      {"gc_percent", image.gc_percent},
      {"max_dirty", image.max_dirty},
      {"max_dirty_age", image.max_dirty_age},
      {"writeback_rate", image.writeback_rate_ceiling},
      {"writeback_rate_floor", image.writeback_rate_floor},
      {"sequential_cutoff", image.sequential_cutoff},
      {"cache_segs", image.cache_segs},
      {"cache_used_segs", image.cache_used_segs},
      {"dirty_bytes", image.dirty_bytes},
      {"lost_bytes", image.lost_bytes},
      {"oldest_dirty_seconds", absl::ToDoubleSeconds(image.oldest_dirty)},
      {"cached_bytes", image.cached_bytes},
      {"index_entries", image.index_entries},
      {"key_head", ToJson(image.key_head)},
      {"dirty_tail", ToJson(image.dirty_tail)},
      {"key_tail", ToJson(image.key_tail)},
      {"committed", image.committed.value()},
      {"incarnation", image.incarnation.value()}};
  AddCounters(image.counters, json);
  json["latency"] = ToJson(image.latencies);
  json["replay"] = ToJson(image.replay);
  return json;
}

Json ToJson(const AbsentImage& image) {
  return {{"name", image.name},
          {"id", image.id.value()},
          {"backing", image.backing},
          {"size", image.size},
          {"mode", Name(image.mode)},
          {"cache_segs", image.cache_segs},
          {"state", image.is_detached ? "detached" : "missing"},
          {"state_reason", image.reason}};
}

Json ToJson(const CacheStatus& cache, const ServerFacts& server) {
  Json json;
  json["version"] = server.version;
  json["transport"] = server.transport;
  json["server"] = ServerToJson(server);
  json["failover"] = FailoverToJson(server.failover);
  json["cache"] = CacheToJson(cache);
  json["images"] = Json::array();
  for (const ImageStatus& image : cache.images) {
    json["images"].push_back(ToJson(image));
  }
  json["absent"] = Json::array();
  for (const AbsentImage& image : cache.absent) {
    json["absent"].push_back(ToJson(image));
  }
  return json;
}

std::string ToText(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace pcachefs
