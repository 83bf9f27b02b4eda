#include "tools/commands/doctor.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fuse/status_json.h"
#include "meta/status_macros.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/control_client.h"
#include "tools/diagnosis.h"

namespace pcachefs {
namespace {

using Verdict = Finding::Verdict;

// As the kernel names files of loop devices.
std::string RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&free)> real(
      realpath(path.c_str(), nullptr), &free);
  return real == nullptr ? path : real.get();
}

Json ToJson(const std::vector<Finding>& findings) {
  Json list = Json::array();
  for (const Finding& finding : findings) {
    list.push_back({{"subject", finding.subject},
                    {"verdict", Name(finding.verdict)},
                    {"found", finding.found},
                    {"fix", finding.fix}});
  }
  return list;
}

std::string ToLines(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    absl::StrAppendFormat(&text, "%-8s %s: %s\n", Name(finding.verdict),
                          finding.subject, finding.found);
    if (!finding.fix.empty()) {
      absl::StrAppend(&text, "         -> ", finding.fix, "\n");
    }
  }
  return text;
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  std::string mount = arguments.Word(0);
  std::optional<Json> status;
  if (!mount.empty()) {
    ASSIGN_OR_RETURN(status, ControlClient(mount).Status(""));
    mount = RealPath(mount);
  }
  const std::vector<Finding> findings =
      Diagnose(GatherMachineFacts("", mount), status);
  const bool is_well = std::none_of(
      findings.begin(), findings.end(), [](const Finding& finding) {
        return finding.verdict == Verdict::kProblem;
      });
  if (arguments.json()) {
    PrintJson({{"ok", is_well}, {"findings", ToJson(findings)}});
  } else {
    PrintText(ToLines(findings));
  }
  return is_well ? 0 : 1;
}

}  // namespace

Command DoctorCommand() {
  return {.name = "doctor",
          .usage = "[MOUNT]",
          .help =
              "Looks for what stands in the way of a fast and safe cache on "
              "this machine and,\nwith MOUNT, of that cache: each problem with "
              "what to do about it.\nExit code 1 if there is a problem; notes "
              "are none.",
          .min_words = 0,
          .max_words = 1,
          .run = Run};
}

}  // namespace pcachefs
