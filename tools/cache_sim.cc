// cache_sim: what a cache of a given size would do for a block trace, by running
// the real core on it, beside LRU and FIFO on the same trace. docs/reclaim.md.
//
//   cache_sim --trace=vm1.csv --cache_sizes=1G,2G,4G
//   cache_sim --generate=zipf_scan --print_trace > zipf.csv

#include <gflags/gflags.h>
#include <glog/logging.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "core/status.h"
#include "meta/size_parser.h"
#include "meta/status_macros.h"
#include "nlohmann/json.hpp"
#include "tools/gflags_exit.h"
#include "tools/simulation/replacement_model.h"
#include "tools/simulation/simulate.h"
#include "tools/simulation/trace.h"
#include "tools/simulation/trace_generator.h"
#include "tools/text_table.h"

DEFINE_string(trace, "", "file with lines time,offset,length,read|write");
DEFINE_string(generate, "", "instead of a file: zipf_scan or shifting");
DEFINE_uint64(seed, 1, "of --generate");
DEFINE_uint64(requests, 400000, "of --generate");
DEFINE_string(hot_size, "1G", "bytes that --generate's requests choose from");
DEFINE_bool(print_trace, false, "print the trace and do nothing else");
DEFINE_string(cache_sizes, "128M,256M,512M", "cache devices to try");
DEFINE_int32(gc_percent, -1, "used share at which reclaim begins; -1: default");
DEFINE_string(sequential_cutoff, "0",
              "of the image: longer sequential reads pass by; 0 = off");
DEFINE_string(read_ahead, "0", "largest window read ahead; 0 = off");
DEFINE_bool(json, false, "print one JSON object");

namespace pcachefs {
namespace {

using Json = nlohmann::ordered_json;

struct Row {
  uint64_t cache_bytes = 0;
  double hit_ratio = 0;
  double write_amplification = 0;
  double lru = 0;
  double fifo = 0;
  ImageStatus::Counters counters;
};

absl::StatusOr<Trace> LoadTrace() {
  if (FLAGS_trace.empty() == FLAGS_generate.empty()) {
    return absl::InvalidArgumentError("name one of --trace and --generate");
  }
  if (!FLAGS_generate.empty()) {
    ASSIGN_OR_RETURN(const uint64_t hot_bytes, ParseSize(FLAGS_hot_size));
    return GenerateTrace(FLAGS_generate, {.seed = FLAGS_seed,
                                          .requests = FLAGS_requests,
                                          .hot_bytes = hot_bytes});
  }
  std::ifstream file(FLAGS_trace, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file.good()) {
    return absl::NotFoundError(
        absl::StrCat(FLAGS_trace, ": cannot be read; name a trace"));
  }
  return ParseTrace(text, FLAGS_trace);
}

absl::StatusOr<uint64_t> SizeOrZero(const std::string& text) {
  if (text == "0") return 0;
  return ParseSize(text);
}

absl::StatusOr<Row> RowFor(uint64_t cache_bytes, const Trace& trace) {
  SimulationOptions options = {.cache_bytes = cache_bytes,
                               .gc_percent = FLAGS_gc_percent};
  ASSIGN_OR_RETURN(options.sequential_cutoff,
                   SizeOrZero(FLAGS_sequential_cutoff));
  ASSIGN_OR_RETURN(options.read_ahead, SizeOrZero(FLAGS_read_ahead));
  Row row = {.cache_bytes = cache_bytes};
  ASSIGN_OR_RETURN(row.counters, Simulate(options, trace));
  row.hit_ratio = HitRatio(row.counters);
  row.write_amplification = row.counters.write_amplification();
  row.lru = HitRatio(Replacement::kLru, cache_bytes, trace);
  row.fifo = HitRatio(Replacement::kFifo, cache_bytes, trace);
  return row;
}

void PrintTable(const std::vector<Row>& rows) {
  const auto percent = [](double ratio) {
    return absl::StrFormat("%.1f %%", ratio * 100);
  };
  TextTable table({">CACHE", ">HITS", ">LRU", ">FIFO", ">WRITE AMPLIFICATION",
                   ">SECOND LIVES", ">BYPASSED"});
  for (const Row& row : rows) {
    table.AddRow({FormatSize(row.cache_bytes), percent(row.hit_ratio),
                  percent(row.lru), percent(row.fifo),
                  absl::StrFormat("%.2f", row.write_amplification),
                  FormatSize(row.counters.second_life_bytes),
                  FormatSize(row.counters.bypass_bytes)});
  }
  std::fputs(table.ToString().c_str(), stdout);
}

void PrintJson(const std::vector<Row>& rows) {
  Json json = {{"caches", Json::array()}};
  for (const Row& row : rows) {
    json["caches"].push_back(
        {{"cache_bytes", row.cache_bytes},
         {"hit_ratio", row.hit_ratio},
         {"lru_hit_ratio", row.lru},
         {"fifo_hit_ratio", row.fifo},
         {"write_amplification", row.write_amplification},
         {"second_life_bytes", row.counters.second_life_bytes},
         {"bypass_bytes", row.counters.bypass_bytes},
         {"evicted_bytes", row.counters.evicted_bytes}});
  }
  std::puts(json.dump().c_str());
}

absl::Status Run() {
  ASSIGN_OR_RETURN(const Trace trace, LoadTrace());
  if (FLAGS_print_trace) {
    std::fputs(FormatTrace(trace).c_str(), stdout);
    return absl::OkStatus();
  }
  std::vector<Row> rows;
  for (const absl::string_view size : absl::StrSplit(FLAGS_cache_sizes, ',')) {
    ASSIGN_OR_RETURN(const uint64_t cache_bytes, ParseSize(size));
    absl::StatusOr<Row> row = RowFor(cache_bytes, trace);
    if (!row.ok()) {
      return absl::Status(
          row.status().code(),
          absl::StrCat("cache of ", size, ": ", row.status().message()));
    }
    rows.push_back(*row);
  }
  if (FLAGS_json) {
    PrintJson(rows);
  } else {
    PrintTable(rows);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace pcachefs

int main(int argc, char** argv) {
  pcachefs::ExitWithUsageCodeOnBadFlags();
  gflags::SetUsageMessage(
      "hit ratio and write amplification of caches of some sizes for a block "
      "trace\n\n  cache_sim --trace=FILE|--generate=NAME "
      "[--cache_sizes=SIZE,...] [--json]");
  gflags::ParseCommandLineFlags(&argc, &argv, /*remove_flags=*/true);
  FLAGS_minloglevel = google::GLOG_WARNING;
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(argv[0]);
  if (argc > 1) {
    std::fprintf(stderr, "cache_sim: unexpected argument %s\n", argv[1]);
    return pcachefs::kExitUsage;
  }
  const absl::Status status = pcachefs::Run();
  if (status.ok()) return pcachefs::kExitOk;
  std::fprintf(stderr, "cache_sim: %s\n",
               std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? pcachefs::kExitUsage
                                         : pcachefs::kExitFailure;
}
