#include "tools/commands/check.h"

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/check.h"
#include "fuse/status_json.h"
#include "iobackend/open_device.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/progress_bar.h"
#include "meta/size_parser.h"

namespace pcachefs {
namespace {

// As fsck(8).
constexpr int kExitClean = 0;
constexpr int kExitDamaged = 4;
constexpr int kExitCouldNotRun = 8;

const char* NameOf(CheckFinding::Severity severity) {
  return severity == CheckFinding::Severity::kDamage ? "damage" : "note";
}

Json ReportToJson(const CheckReport& report) {
  Json findings = Json::array();
  for (const CheckFinding& finding : report.findings) {
    findings.push_back({{"severity", NameOf(finding.severity)},
                        {"image", finding.image},
                        {"message", finding.message}});
  }
  return {{"ok", !report.damaged()},
          {"clean_stop", report.clean_stop},
          {"images", report.images},
          {"key_sets", report.key_sets},
          {"keys", report.keys},
          {"payload_bytes", report.payload_bytes},
          {"dirty_bytes", report.dirty_bytes},
          {"findings", findings}};
}

std::string ReportToText(const std::string& path, const CheckReport& report) {
  std::string text;
  for (const CheckFinding& finding : report.findings) {
    absl::StrAppend(&text, path, ": ", NameOf(finding.severity), ": ",
                    finding.image, finding.image.empty() ? "" : ": ",
                    finding.message, "\n");
  }
  absl::StrAppend(&text, path, ": ", report.damaged() ? "damaged" : "clean",
                  ": ", report.images, " images, ", report.keys, " keys, ",
                  FormatSize(report.payload_bytes), " of payload verified, ",
                  FormatSize(report.dirty_bytes), " dirty, last stop was ",
                  report.clean_stop ? "orderly" : "a crash or none", "\n");
  return text;
}

absl::StatusOr<CheckReport> Check(const std::string& path) {
  ASSIGN_OR_RETURN(const OpenedCacheDevice opened,
                   OpenCacheDevice(path, {.read_only = true}));
  ProgressBar bar("check");
  const absl::Time start = absl::Now();
  CheckOptions options;
  options.progress = [&](uint64_t done, uint64_t total) {
    bar.Update(done, total, absl::Now() - start);
  };
  return CheckCache(*opened.device, options);
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  const std::string path = arguments.Word(0);
  const absl::StatusOr<CheckReport> report = Check(path);
  if (!report.ok()) {
    PrintFailure(report.status(), arguments.json());
    return kExitCouldNotRun;
  }
  if (arguments.json()) {
    PrintJson(ReportToJson(*report));
  } else {
    PrintText(ReportToText(path, *report));
  }
  return report->damaged() ? kExitDamaged : kExitClean;
}

}  // namespace

Command CheckCommand() {
  return {.name = "check",
          .usage = "CACHE",
          .help =
              "Checks a cache that is not being served: all records, the "
              "log and all payload.\nChanges nothing. Exit codes: 0 clean, "
              "4 damage found, 8 could not run.",
          .min_words = 1,
          .max_words = 1,
          .run = Run};
}

}  // namespace pcachefs
