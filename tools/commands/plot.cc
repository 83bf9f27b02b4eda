#include "tools/commands/plot.h"

#include <cerrno>
#include <fstream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/run_plot.h"

namespace pcachefs {
namespace {

// All images, or the one of that name, together.
RunSample SampleOf(const Json& line, const std::string& name) {
  RunSample sample = {.time = line.value("time", 0.0)};
  for (const Json& image : line.value("images", Json::array())) {
    if (!name.empty() && TextOf(image, "name") != name) continue;
    sample.hits += NumberOf(image, "read_hits");
    sample.reads += NumberOf(image, "read_hits") +
                    NumberOf(image, "read_partial_hits") +
                    NumberOf(image, "read_misses");
    const Json latencies = image.value("latency", Json::object());
    for (size_t i = 0; i < kPlottedLatencies.size(); ++i) {
      const Json latency = latencies.value(std::string(kPlottedLatencies[i]),
                                           Json::object());
      sample.latencies[i].count += NumberOf(latency, "count");
      sample.latencies[i].sum_seconds += latency.value("sum_seconds", 0.0);
    }
  }
  return sample;
}

absl::StatusOr<std::vector<RunSample>> ReadRun(const std::string& path,
                                               const std::string& name) {
  std::ifstream stream(path);
  if (!stream) {
    return absl::ErrnoToStatus(errno, absl::StrCat("record ", path));
  }
  std::vector<RunSample> samples;
  int number = 0;
  for (std::string text; std::getline(stream, text);) {
    ++number;
    const Json line = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.is_object() || !line.contains("time") ||
        !line["time"].is_number()) {
      // The last one of a recording that was interrupted.
      if (stream.eof()) break;
      return absl::InvalidArgumentError(absl::StrCat(
          path, ", line ", number,
          ": want a line of: pcachectl stats MOUNT --watch --json"));
    }
    samples.push_back(SampleOf(line, name));
  }
  if (samples.size() < 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": got ", samples.size(), " samples, want at least 2"));
  }
  return samples;
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  const std::string output = arguments.Flag("output");
  if (!absl::EndsWith(output, ".svg")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--output: got '", output, "', want a name in .svg"));
  }
  const std::string name = arguments.Word(1);
  ASSIGN_OR_RETURN(const std::vector<RunSample> samples,
                   ReadRun(arguments.Word(0), name));
  errno = 0;
  std::ofstream stream(output, std::ios::binary | std::ios::trunc);
  stream << DrawRun(name.empty() ? "all images" : name, samples);
  stream.close();
  if (!stream.good()) {
    return absl::ErrnoToStatus(errno != 0 ? errno : EIO,
                               absl::StrCat("--output ", output));
  }
  if (arguments.json()) {
    PrintJson({{"ok", true}, {"samples", samples.size()}});
  }
  return 0;
}

}  // namespace

Command PlotCommand() {
  return {.name = "plot",
          .usage = "RECORD [NAME] --output=FILE.svg",
          .help =
              "Draws hit ratio and latencies over time of a run that was "
              "recorded with\n\n    pcachectl stats MOUNT --watch --json "
              ">RECORD\n\nof all images together, or of one.",
          .min_words = 1,
          .max_words = 2,
          .flags = {"output"},
          .run = Run};
}

}  // namespace pcachefs
