#include "tools/mount_options.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "tools/image_specs.h"
#include "tools/settings.h"

namespace pcachefs {
namespace {

// Said to mount(8), systemd or the kernel, which have dealt with it.
bool IsForOthers(absl::string_view name) {
  for (const char* other :
       {"defaults", "rw", "auto", "noauto", "user", "nouser", "users",
        "nousers", "owner", "noowner", "group", "nogroup", "nofail", "_netdev",
        "_rnetdev", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "atime",
        "noatime", "diratime", "nodiratime", "relatime", "norelatime",
        "strictatime", "nostrictatime", "lazytime", "nolazytime", "iversion",
        "noiversion", "mand", "nomand", "silent", "loud", "sync", "async",
        "dirsync", "default_permissions"}) {
    if (name == other) return true;
  }
  for (const char* prefix : {"x-", "X-", "comment=", "user=", "helper=",
                             "uhelper="}) {
    if (absl::StartsWith(name, prefix)) return true;
  }
  return false;
}

// Commas that stood escaped in the value must stay so in a list of images.
std::string Escape(absl::string_view value) {
  return absl::StrReplaceAll(value, {{"\\", "\\\\"}, {",", "\\,"}});
}

absl::Status AddOption(absl::string_view word,
                       std::map<std::string, std::string>& values) {
  const size_t equals = word.find('=');
  std::string name(word.substr(0, equals));
  if (name == "ro") name = "read_only";
  const Setting* setting = FindSetting(name);
  if (setting == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("-o: unknown option '", name, "'; see --help"));
  }
  if (equals == absl::string_view::npos) {
    if (!setting->is_switch()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "-o: ", name, " needs a value: ", name, "=", setting->placeholder));
    }
    values[name] = "true";
    return absl::OkStatus();
  }
  std::string value(word.substr(equals + 1));
  if (name == "backing") {
    value = Escape(value);
    if (values.count(name) > 0) value = values[name] + "," + value;
  }
  values[name] = std::move(value);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> TakeMountOptions(
    std::vector<std::string>& arguments) {
  std::vector<std::string> options;
  std::vector<std::string> rest;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--") {
      rest.insert(rest.end(), arguments.begin() + i, arguments.end());
      break;
    }
    if (argument == "-o" || argument == "--o") {
      if (i + 1 == arguments.size()) {
        return absl::InvalidArgumentError("-o: want options after it");
      }
      options.push_back(arguments[++i]);
    } else if (argument.starts_with("-o") && argument.size() > 2 &&
               FindSetting(argument.substr(1, argument.find('=') - 1)) ==
                   nullptr) {
      options.push_back(argument.substr(2));  // "-oX", but not "-order=X"
    } else {
      rest.push_back(argument);
    }
  }
  arguments = std::move(rest);
  return options;
}

absl::StatusOr<std::map<std::string, std::string>> ParseMountOptions(
    absl::string_view text) {
  std::map<std::string, std::string> values;
  for (const std::string& word : SplitWords(text)) {
    if (word.empty() || IsForOthers(word)) continue;
    const absl::Status status = AddOption(word, values);
    if (!status.ok()) return status;
  }
  return values;
}

}  // namespace pcachefs
