#include "tools/commands/stats.h"

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"
#include "meta/size_parser.h"
#include "tools/text_table.h"

namespace pcachefs {
namespace {

constexpr absl::Duration kInterval = absl::Seconds(1);

// In the order of the table; all are members of an image's status.
constexpr const char* kCounters[] = {"reads",
                                     "read_bytes",
                                     "read_hits",
                                     "read_partial_hits",
                                     "read_misses",
                                     "read_hit_bytes",
                                     "read_miss_bytes",
                                     "shared_misses",
                                     "writes",
                                     "write_bytes",
                                     "write_waits",
                                     "discards",
                                     "discard_bytes",
                                     "zeroes",
                                     "zero_bytes",
                                     "flushes",
                                     "commits",
                                     "fills",
                                     "fill_bytes",
                                     "fills_dropped",
                                     "writeback_bytes",
                                     "writeback_batches",
                                     "backing_flushes",
                                     "bypasses",
                                     "bypass_bytes",
                                     "read_aheads",
                                     "read_ahead_bytes",
                                     "read_ahead_used_bytes",
                                     "read_ahead_wasted_bytes",
                                     "payload_bytes",
                                     "reclaimed_segments",
                                     "evictions",
                                     "evicted_bytes",
                                     "second_lives",
                                     "second_life_bytes",
                                     "checksum_errors",
                                     "backing_read_errors",
                                     "backing_write_errors",
                                     "cache_errors"};

constexpr const char* kLatencies[] = {"read_hit",     "read_miss",
                                      "write",        "flush",
                                      "backing_read", "backing_write"};

Json CountersOf(const Json& status) {
  Json images = Json::array();
  for (const Json& image : status["images"]) {
    Json counters = {{"name", image["name"]}};
    for (const char* key : kCounters) counters[key] = NumberOf(image, key);
    counters["write_amplification"] = image.value("write_amplification", 0.0);
    counters["latency"] = image.value("latency", Json::object());
    images.push_back(std::move(counters));
  }
  return {{"images", std::move(images)}};
}

std::string LatencyTable(const Json& latencies) {
  const auto time = [](double seconds) {
    return absl::FormatDuration(
        absl::Trunc(absl::Seconds(seconds), absl::Microseconds(1)));
  };
  TextTable table({"LATENCY", ">COUNT", ">MEAN", ">P50", ">P99", ">P99.9"});
  for (const char* key : kLatencies) {
    const Json latency = latencies.value(key, Json::object());
    const uint64_t count = NumberOf(latency, "count");
    const double sum = latency.value("sum_seconds", 0.0);
    table.AddRow({key, absl::StrCat(count),
                  time(count == 0 ? 0 : sum / static_cast<double>(count)),
                  time(latency.value("p50_seconds", 0.0)),
                  time(latency.value("p99_seconds", 0.0)),
                  time(latency.value("p999_seconds", 0.0))});
  }
  return table.ToString();
}

void PrintTable(const Json& status) {
  for (const Json& image : status["images"]) {
    TextTable table({TextOf(image, "name"), ">SINCE START"});
    for (const char* key : kCounters) {
      table.AddRow({key, absl::StrCat(NumberOf(image, key))});
    }
    table.AddRow({"write_amplification",
                  absl::StrFormat(
                      "%.2f", image.value("write_amplification", 0.0))});
    PrintText(table.ToString() + "\n");
    PrintText(LatencyTable(image.value("latency", Json::object())) + "\n");
  }
}

// Sum over all images.
uint64_t Sum(const Json& status, const char* key) {
  uint64_t sum = 0;
  for (const Json& image : status["images"]) sum += NumberOf(image, key);
  return sum;
}

std::string RateLine(const Json& before, const Json& after, double seconds) {
  const auto rate = [&](const char* key) {
    const double change =
        static_cast<double>(Sum(after, key) - Sum(before, key));
    return static_cast<uint64_t>(change / seconds + 0.5);
  };
  return absl::StrFormat("%9d %9s %9d %9d %9s %9d %9s %9s\n", rate("reads"),
                         FormatSize(rate("read_bytes")), rate("read_misses"),
                         rate("writes"), FormatSize(rate("write_bytes")),
                         rate("flushes"), FormatSize(rate("writeback_bytes")),
                         FormatSize(Sum(after, "dirty_bytes")));
}

// Until it is interrupted, or the daemon goes.
absl::StatusOr<int> Watch(const ControlClient& client,
                          const std::string& name) {
  ASSIGN_OR_RETURN(Json before, client.Status(name));
  PrintText(absl::StrFormat("%9s %9s %9s %9s %9s %9s %9s %9s\n", "reads/s",
                            "bytes/s", "misses/s", "writes/s", "bytes/s",
                            "flushes/s", "back/s", "dirty"));
  for (;;) {
    const absl::Time start = absl::Now();
    absl::SleepFor(kInterval);
    ASSIGN_OR_RETURN(Json after, client.Status(name));
    PrintText(
        RateLine(before, after, absl::ToDoubleSeconds(absl::Now() - start)));
    before = std::move(after);
  }
}

// A line a second, for `plot`.
absl::StatusOr<int> Record(const ControlClient& client,
                           const std::string& name) {
  for (;;) {
    ASSIGN_OR_RETURN(const Json status, client.Status(name));
    Json line = CountersOf(status);
    line["time"] = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch());
    PrintJson(line);
    absl::SleepFor(kInterval);
  }
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  const ControlClient client(arguments.Word(0));
  if (arguments.Has("watch") && arguments.json()) {
    return Record(client, arguments.Word(1));
  }
  if (arguments.Has("watch")) return Watch(client, arguments.Word(1));
  ASSIGN_OR_RETURN(const Json status, client.Status(arguments.Word(1)));
  if (arguments.json()) {
    PrintJson(CountersOf(status));
  } else {
    PrintTable(status);
  }
  return 0;
}

}  // namespace

Command StatsCommand() {
  return {.name = "stats",
          .usage = "MOUNT [NAME] [--watch]",
          .help =
              "Shows the counters of all images, or of one, since the "
              "start of the daemon.\n"
              "--watch prints rates every second until interrupted, and with "
              "--json the counters:\na record that `plot` draws.",
          .min_words = 1,
          .max_words = 2,
          .flags = {"watch"},
          .run = Run};
}

}  // namespace pcachefs
