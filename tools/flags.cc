#include "tools/flags.h"

#include <gflags/gflags.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "meta/status_macros.h"
#include "tools/config_file.h"
#include "tools/gflags_exit.h"
#include "tools/image_specs.h"
#include "tools/mount_options.h"
#include "tools/settings.h"

DECLARE_bool(help);
DECLARE_bool(helpshort);
DECLARE_bool(version);

namespace pcachefs {
namespace {

constexpr char kFile[] = "tools/settings.cc";

constexpr char kConfig[] = "config";

// One flag per setting, which lives as long as the program.
void RegisterFlags() {
  gflags::FlagRegisterer(kConfig, "a file with settings", kFile,
                         new std::string, new std::string);
  for (const Setting& setting : AllSettings()) {
    if (setting.is_switch()) {
      gflags::FlagRegisterer(setting.name, setting.help, kFile, new bool(false),
                             new bool(false));
    } else {
      gflags::FlagRegisterer(setting.name, setting.help, kFile, new std::string,
                             new std::string);
    }
  }
}

std::map<std::string, std::string> ExplicitFlags() {
  std::map<std::string, std::string> values;
  for (const Setting& setting : AllSettings()) {
    gflags::CommandLineFlagInfo info;
    if (!gflags::GetCommandLineFlagInfo(setting.name, &info)) continue;
    if (!info.is_default) values[setting.name] = info.current_value;
  }
  return values;
}

// Leaves the positional arguments.
void ParseFlags(std::vector<std::string>& arguments) {
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  int count = static_cast<int>(pointers.size());
  char** values = pointers.data();
  gflags::ParseCommandLineNonHelpFlags(&count, &values, true);
  arguments = {values + 1, values + count};
}

// Flags win over -o, and that wins over the file.
absl::StatusOr<std::map<std::string, std::string>> CollectValues(
    const std::vector<std::string>& mount_options) {
  std::map<std::string, std::string> values = ExplicitFlags();
  for (const std::string& text : mount_options) {
    ASSIGN_OR_RETURN(auto more, ParseMountOptions(text));
    values.merge(more);  // keeps what is there
  }
  std::string config;
  gflags::GetCommandLineOption(kConfig, &config);
  if (!config.empty()) {
    ASSIGN_OR_RETURN(auto more, ReadConfigFile(config));
    values.merge(more);
  }
  return values;
}

std::string JoinSpecs(const std::vector<ImageSpec>& images) {
  std::string text;
  for (const ImageSpec& image : images) {
    absl::StrAppend(
        &text, text.empty() ? "" : ",",
        absl::StrReplaceAll(absl::StrCat(image.name, "=", image.spec),
                            {{"\\", "\\\\"}, {",", "\\,"}}));
  }
  return text;
}

std::vector<std::string> AllArguments(
    std::map<std::string, std::string> values, const Settings& settings) {
  values["cache"] = settings.cache;
  if (!settings.backing.empty()) {
    values["backing"] = JoinSpecs(settings.backing);
  }
  if (settings.metrics_listen) {
    values["metrics_listen"] = settings.metrics_listen->ToString();
  }
  // Of libraries: where to log, and how much.
  std::vector<gflags::CommandLineFlagInfo> flags;
  gflags::GetAllFlags(&flags);
  for (const gflags::CommandLineFlagInfo& flag : flags) {
    if (!flag.is_default && FindSetting(flag.name) == nullptr &&
        flag.name != kConfig && flag.name != "flagfile") {
      values[flag.name] = flag.current_value;
    }
  }
  std::vector<std::string> arguments;
  for (const auto& [name, value] : values) {
    arguments.push_back(absl::StrCat("--", name, "=", value));
  }
  return arguments;
}

absl::Status CheckComplete(const Settings& settings) {
  if (settings.cache.empty()) {
    return absl::InvalidArgumentError(
        "--cache is missing: want the path of a cache device");
  }
  return absl::OkStatus();
}

}  // namespace

void JoinBackingFlags(std::vector<std::string>& arguments) {
  std::vector<std::string> rest;
  std::vector<std::string> backing;
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view name = arguments[i];
    const size_t equals = name.find('=');
    name = name.substr(0, equals);
    if (arguments[i] == "--") {
      rest.insert(rest.end(), arguments.begin() + i, arguments.end());
      break;
    }
    if (name != "--backing" && name != "-backing") {
      rest.push_back(arguments[i]);
    } else if (equals != absl::string_view::npos) {
      backing.push_back(arguments[i].substr(equals + 1));
    } else if (i + 1 < arguments.size()) {
      backing.push_back(arguments[++i]);
    } else {
      rest.push_back(arguments[i]);  // gflags says what is wrong with it
    }
  }
  if (!backing.empty()) {
    rest.insert(rest.begin() + 1,
                absl::StrCat("--backing=", absl::StrJoin(backing, ",")));
  }
  arguments = std::move(rest);
}

absl::StatusOr<CommandLine> ParseCommandLine(
    std::vector<std::string> arguments) {
  ExitWithUsageCodeOnBadFlags();
  RegisterFlags();
  ASSIGN_OR_RETURN(const auto mount_options, TakeMountOptions(arguments));
  JoinBackingFlags(arguments);
  RETURN_IF_ERROR(CheckFlagsExist({arguments.begin() + 1, arguments.end()},
                                  "pcachefs --help"));
  ParseFlags(arguments);

  CommandLine line;
  line.wants_help = FLAGS_help || FLAGS_helpshort;
  line.wants_version = FLAGS_version;
  if (line.wants_help || line.wants_version) return line;

  ASSIGN_OR_RETURN(auto values, CollectValues(mount_options));
  if (const auto mountpoint = values.extract(kMountpointKey);
      !mountpoint.empty() && arguments.empty()) {
    arguments.push_back(mountpoint.mapped());
  }
  ASSIGN_OR_RETURN(line.settings, ReadSettings(values));
  RETURN_IF_ERROR(CheckComplete(line.settings));
  line.all_arguments = AllArguments(values, line.settings);
  if (arguments.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("got ", arguments.size(), " mountpoints, want 1"));
  }
  line.settings.mountpoint = arguments[0];
  return line;
}

std::string HelpText() {
  std::string text =
      "usage: pcachefs --cache=PATH [--cache_size=SIZE] "
      "[--backing=NAME=SPEC,...] [flags] MOUNTPOINT\n\n"
      "Puts the cache device PATH in front of slow disks and shows each as "
      "MOUNTPOINT/NAME.\n"
      "Sizes take K, M, G and T. Every flag may be written as -o key=value "
      "too.\n\n";
  for (const Setting& setting : AllSettings()) {
    const std::string name =
        setting.is_switch()
            ? absl::StrCat("--", setting.name)
            : absl::StrCat("--", setting.name, "=", setting.placeholder);
    absl::StrAppend(&text, "  ", name, "\n        ", setting.help, "\n");
  }
  absl::StrAppend(
      &text,
      "  --config=FILE\n        settings from a file of lines KEY = VALUE, and "
      "its mountpoint; flags and -o win\n"
      "\nA daemon logs to syslog; --log_dir=DIR makes it log to files in DIR,\n"
      "--foreground to the terminal, --v=1 more. It ends on SIGTERM or when\n"
      "unmounted; dirty data stays in the cache (pcachectl drain writes it\n"
      "back). Exit codes: 0 the mount answers, 1 failure, 2 wrong usage.\n");
  return text;
}

}  // namespace pcachefs
