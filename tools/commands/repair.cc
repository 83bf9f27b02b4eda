#include "tools/commands/repair.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/check.h"
#include "core/repair.h"
#include "fuse/status_json.h"
#include "iobackend/cache_device.h"
#include "iobackend/open_device.h"
#include "meta/status_macros.h"
#include "meta/types.h"
#include "tools/commands/command.h"
#include "tools/commands/output.h"
#include "tools/undo_log.h"

namespace pcachefs {
namespace {

// As fsck(8).
constexpr int kExitSound = 0;
constexpr int kExitDamageLeft = 4;
constexpr int kExitCouldNotRun = 8;

struct Result {
  RepairPlan plan;
  bool applied = false;
  std::vector<std::string> left;  // what still keeps the cache from being sound
  std::string undo;               // file
};

std::string TextOf(const RepairStep& step) {
  return absl::StrCat(step.gives_up ? "gives up: " : "repairs: ", step.image,
                      step.image.empty() ? "" : ": ", step.message);
}

absl::Status Apply(const Arguments& arguments, CacheDevice& device,
                   const std::vector<RepairStep>& steps, Result& result) {
  ASSIGN_OR_RETURN(const Uuid uuid, ReadUuid(device));
  result.undo = arguments.Has("undo")
                    ? arguments.Flag("undo")
                    : absl::StrCat("pcachefs-", uuid.ToString(), ".undo");
  ASSIGN_OR_RETURN(const std::vector<RepairStep::Store> old,
                   ReadForUndo(device, steps));
  RETURN_IF_ERROR(WriteUndoLog(result.undo, uuid, old));
  for (const RepairStep& step : steps) {
    RETURN_IF_ERROR(ApplyStores(device, step.stores));
  }
  result.applied = true;
  return absl::OkStatus();
}

// Steps that the user has agreed to; the others are noted as left.
std::vector<RepairStep> Agreed(const Arguments& arguments, Result& result) {
  std::vector<RepairStep> steps;
  for (const RepairStep& step : result.plan.steps) {
    if (step.gives_up && !arguments.Has("force")) {
      result.left.push_back(absl::StrCat(step.message, " (--force does it)"));
    } else {
      steps.push_back(step);
    }
  }
  return steps;
}

absl::StatusOr<Result> Repair(const Arguments& arguments) {
  const bool dry_run = arguments.Has("dry_run");
  ASSIGN_OR_RETURN(const OpenedCacheDevice opened,
                   OpenCacheDevice(arguments.Word(0), {.read_only = dry_run}));
  CacheDevice& device = *opened.device;
  Result result;
  ASSIGN_OR_RETURN(result.plan, PlanRepair(device));
  result.left = result.plan.beyond_repair;
  const std::vector<RepairStep> steps = Agreed(arguments, result);
  if (dry_run) {
    for (const RepairStep& step : steps) result.left.push_back(step.message);
    return result;
  }
  if (!steps.empty()) RETURN_IF_ERROR(Apply(arguments, device, steps, result));
  if (!result.left.empty()) return result;
  // Whether it is sound now is for check to say, which looks at more.
  ASSIGN_OR_RETURN(const CheckReport report, CheckCache(device, {}));
  for (const CheckFinding& finding : report.findings) {
    if (finding.severity == CheckFinding::Severity::kDamage) {
      result.left.push_back(absl::StrCat(
          finding.image, finding.image.empty() ? "" : ": ", finding.message));
    }
  }
  return result;
}

absl::Status Restore(const Arguments& arguments) {
  ASSIGN_OR_RETURN(const OpenedCacheDevice opened,
                   OpenCacheDevice(arguments.Word(0), {}));
  ASSIGN_OR_RETURN(const Uuid uuid, ReadUuid(*opened.device));
  ASSIGN_OR_RETURN(const std::vector<RepairStep::Store> stores,
                   ReadUndoLog(arguments.Flag("restore"), uuid));
  return ApplyStores(*opened.device, stores);
}

Json ResultToJson(const Result& result) {
  Json steps = Json::array();
  for (const RepairStep& step : result.plan.steps) {
    steps.push_back({{"image", step.image},
                     {"message", step.message},
                     {"gives_up", step.gives_up}});
  }
  return {{"ok", result.left.empty()}, {"steps", steps},
          {"applied", result.applied}, {"undo", result.undo},
          {"left", result.left}};
}

std::string ResultToText(const std::string& path, const Result& result) {
  std::string text;
  for (const RepairStep& step : result.plan.steps) {
    absl::StrAppend(&text, path, ": ", TextOf(step), "\n");
  }
  if (result.applied) {
    absl::StrAppend(&text, path, ": done; to take it back: pcachectl repair ",
                    path, " --restore=", result.undo, "\n");
  }
  for (const std::string& left : result.left) {
    absl::StrAppend(&text, path, ": left: ", left, "\n");
  }
  absl::StrAppend(&text, path, ": ", result.left.empty() ? "sound" : "damaged",
                  "\n");
  return text;
}

absl::StatusOr<int> Run(const Arguments& arguments) {
  if (arguments.Has("restore")) {
    RETURN_IF_ERROR(Restore(arguments));
    if (arguments.json()) PrintJson({{"ok", true}});
    return kExitSound;
  }
  const absl::StatusOr<Result> result = Repair(arguments);
  if (!result.ok()) {
    PrintFailure(result.status(), arguments.json());
    return kExitCouldNotRun;
  }
  if (arguments.json()) {
    PrintJson(ResultToJson(*result));
  } else {
    PrintText(ResultToText(arguments.Word(0), *result));
  }
  return result->left.empty() ? kExitSound : kExitDamageLeft;
}

}  // namespace

Command RepairCommand() {
  return {.name = "repair",
          .usage = "CACHE [--dry_run] [--force] [--undo=FILE | --restore=FILE]",
          .help =
              "Repairs a cache that is not being served, and says what it "
              "does. Copies are\nmade anew; what is lost is given up only with "
              "--force, so that the rest can be\nserved. What it overwrites is "
              "kept in a file first, from which --restore puts\nit back. Exit "
              "codes: 0 sound, 4 damage left, 8 could not run.",
          .min_words = 1,
          .max_words = 1,
          .flags = {"dry_run", "force", "undo", "restore"},
          .run = Run};
}

}  // namespace pcachefs
