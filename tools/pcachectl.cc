// pcachectl: administers caches. One file per verb in tools/commands/.

#include <gflags/gflags.h>
#include <glog/logging.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "meta/status_macros.h"
#include "tools/commands/attach.h"
#include "tools/commands/check.h"
#include "tools/commands/check_config.h"
#include "tools/commands/clear_mount.h"
#include "tools/commands/command.h"
#include "tools/commands/detach.h"
#include "tools/commands/doctor.h"
#include "tools/commands/drain.h"
#include "tools/commands/dump.h"
#include "tools/commands/explain.h"
#include "tools/commands/flush.h"
#include "tools/commands/format.h"
#include "tools/commands/get.h"
#include "tools/commands/grow.h"
#include "tools/commands/list.h"
#include "tools/commands/map.h"
#include "tools/commands/plot.h"
#include "tools/commands/output.h"
#include "tools/commands/repair.h"
#include "tools/commands/set.h"
#include "tools/commands/stats.h"
#include "tools/commands/status.h"
#include "tools/commands/stop.h"
#include "tools/commands/top.h"
#include "tools/commands/upgrade.h"
#include "tools/commands/writeback.h"
#include "tools/gflags_exit.h"
#include "tools/help_pages.h"
#include "tools/version.h"

DECLARE_bool(help);
DECLARE_bool(helpshort);
DECLARE_bool(version);

namespace pcachefs {
namespace {

constexpr CommandFlag kFlags[] = {
    {"json", nullptr, "print one JSON object"},
    {"size", "SIZE", "of the file to make; takes K, M, G, T"},
    {"segment_size", "SIZE", "1M to 64M (16M, or less for a small cache)"},
    {"force", nullptr, "do it all the same"},
    {"quiet", nullptr, "print nothing, answer by the exit code"},
    {"watch", nullptr, "go on, once a second"},
    {"drain", nullptr, "write dirty data back first"},
    {"output", "FILE", "a picture to write, *.svg"},
    {"wait", "SECONDS", "for the devices of the config to be there"},
    {"count", "N", "end after so many screens"},
    {"keep_dirty", nullptr, "keep dirty data in the cache"},
    {"mode", "MODE", "of a new image; writeback"},
    {"order", "ORDER", "of a new image: strict, grouped or relaxed"},
    {"read_only_backing", nullptr, "of a new image: never write to its device"},
    {"image_cache_size", "SIZE", "share of a new image; takes K, M, G, T"},
    {"binary", "PATH", "the program to run; that of the running one"},
    {"keys", nullptr, "show every key of the log, too"},
    {"dry_run", nullptr, "only say what would be done"},
    {"undo", "FILE", "where to keep what is overwritten (pcachefs-UUID.undo)"},
    {"restore", "FILE", "put back what a repair kept there"},
};

std::vector<Command> AllCommands() {
  return {FormatCommand(), AttachCommand(), DetachCommand(), ListCommand(),
          StatusCommand(), StatsCommand(),  GetCommand(),    SetCommand(),
          FlushCommand(),  DrainCommand(),  StopCommand(),   CheckCommand(),
          RepairCommand(), DumpCommand(),   GrowCommand(),   WritebackCommand(),
          CheckConfigCommand(), ClearMountCommand(),
          DoctorCommand(), ExplainCommand(), MapCommand(), PlotCommand(),
          TopCommand(), UpgradeCommand()};
}

std::string Overview() {
  std::string text =
      "usage: pcachectl VERB ARGUMENTS... [--json]\n"
      "       pcachectl VERB --help\n\n";
  for (const Command& command : AllCommands()) {
    absl::StrAppend(&text, "  pcachectl ", command.name, " ", command.usage,
                    "\n");
  }
  absl::StrAppend(
      &text,
      "\nExit codes: 0 ok, 1 failure, 2 wrong usage; check, repair: 4 damage, "
      "8 could not run;\nstatus --quiet: 3 dirty.\n");
  return text;
}

std::string HelpOf(const Command& command) {
  std::string text = absl::StrCat("usage: pcachectl ", command.name, " ",
                                  command.usage, "\n\n", command.help, "\n\n");
  for (const CommandFlag& flag : kFlags) {
    const bool is_common = std::string(flag.name) == "json";
    if (!is_common && std::count(command.flags.begin(), command.flags.end(),
                                 flag.name) == 0) {
      continue;
    }
    absl::StrAppend(&text, "  --", flag.name, flag.placeholder ? "=" : "",
                    flag.placeholder ? flag.placeholder : "", "\n        ",
                    flag.help, "\n");
  }
  return text;
}

void RegisterFlags() {
  for (const CommandFlag& flag : kFlags) {
    if (flag.placeholder == nullptr) {
      gflags::FlagRegisterer(flag.name, flag.help, __FILE__, new bool(false),
                             new bool(false));
    } else {
      gflags::FlagRegisterer(flag.name, flag.help, __FILE__, new std::string,
                             new std::string);
    }
  }
}

// Words and flags as given; gflags has ended the program if a flag is unknown.
Arguments Parse(int argc, char** argv) {
  gflags::ParseCommandLineNonHelpFlags(&argc, &argv, true);
  Arguments arguments;
  arguments.words = {argv + 1, argv + argc};
  for (const CommandFlag& flag : kFlags) {
    gflags::CommandLineFlagInfo info;
    if (gflags::GetCommandLineFlagInfo(flag.name, &info) && !info.is_default) {
      arguments.flags[flag.name] = info.current_value;
    }
  }
  return arguments;
}

absl::StatusOr<Command> FindCommand(const std::string& name) {
  for (const Command& command : AllCommands()) {
    if (command.name == name) return command;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown verb '", name, "'; see pcachectl --help"));
}

absl::Status CheckArguments(const Command& command,
                            const Arguments& arguments) {
  for (const auto& [flag, value] : arguments.flags) {
    if (flag != "json" &&
        std::count(command.flags.begin(), command.flags.end(), flag) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(command.name, ": knows no flag --", flag,
                       "; see pcachectl ", command.name, " --help"));
    }
  }
  if (arguments.words.size() >= command.min_words &&
      arguments.words.size() <= command.max_words) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      command.name, ": got ", arguments.words.size(),
      " arguments, want: pcachectl ", command.name, " ", command.usage));
}

int ExitCodeOf(const absl::Status& status) {
  return absl::IsInvalidArgument(status) ? kExitUsage : kExitFailure;
}

// For packages: `pcachectl generate PAGE`, which the overview does not show.
absl::StatusOr<int> Generate(const std::string& page) {
  ASSIGN_OR_RETURN(
      const std::string text,
      MakeHelpPage(page, {AllCommands(),
                          {std::begin(kFlags), std::end(kFlags)}}));
  PrintText(text);
  return kExitOk;
}

absl::StatusOr<int> RunVerb(Arguments arguments) {
  if (arguments.words.empty()) {
    return absl::InvalidArgumentError("want a verb; see pcachectl --help");
  }
  if (arguments.words[0] == "generate") return Generate(arguments.Word(1));
  ASSIGN_OR_RETURN(const Command command, FindCommand(arguments.words[0]));
  arguments.words.erase(arguments.words.begin());
  if (FLAGS_help || FLAGS_helpshort) {
    PrintText(HelpOf(command));
    return kExitOk;
  }
  RETURN_IF_ERROR(CheckArguments(command, arguments));
  return command.run(arguments);
}

int Main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = google::GLOG_ERROR;
  ExitWithUsageCodeOnBadFlags();
  RegisterFlags();
  const absl::Status flags =
      CheckFlagsExist({argv + 1, argv + argc}, "pcachectl VERB --help");
  if (!flags.ok()) {
    PrintFailure(flags, /*json=*/false);
    return kExitUsage;
  }
  const Arguments arguments = Parse(argc, argv);
  if (FLAGS_version) {
    PrintText(VersionLine("pcachectl") + "\n");
    return kExitOk;
  }
  if (arguments.words.empty() && (FLAGS_help || FLAGS_helpshort)) {
    PrintText(Overview());
    return kExitOk;
  }
  const absl::StatusOr<int> code = RunVerb(arguments);
  if (code.ok()) return *code;
  PrintFailure(code.status(), arguments.json());
  return ExitCodeOf(code.status());
}

}  // namespace
}  // namespace pcachefs

int main(int argc, char** argv) { return pcachefs::Main(argc, argv); }
