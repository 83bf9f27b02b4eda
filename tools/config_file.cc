#include "tools/config_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "meta/status_macros.h"
#include "tools/settings.h"

namespace pcachefs {
namespace {

constexpr size_t kMaxSize = 1 << 20;

bool MayRepeat(absl::string_view key) { return key == "backing"; }

// Empty if the line is fine.
std::string TakeLine(absl::string_view line,
                     std::map<std::string, std::string>& values) {
  const size_t equals = line.find('=');
  if (equals == absl::string_view::npos) {
    return absl::StrCat("got '", line, "', want KEY = VALUE");
  }
  const std::string key(absl::StripAsciiWhitespace(line.substr(0, equals)));
  const std::string value(absl::StripAsciiWhitespace(line.substr(equals + 1)));
  const bool is_mountpoint = key == kMountpointKey;
  const Setting* setting = FindSetting(key);
  if (setting == nullptr && !is_mountpoint) {
    return absl::StrCat("unknown key '", key, "'; see pcachefs --help");
  }
  if (values.count(key) > 0 && !MayRepeat(key)) {
    return absl::StrCat(key, ": is there already");
  }
  if (is_mountpoint && (value.empty() || value[0] != '/')) {
    return absl::StrCat(key, ": got '", value, "', want an absolute path");
  }
  if (setting != nullptr) {
    Settings ignored;
    const absl::Status status = setting->set(value, ignored);
    if (!status.ok()) return absl::StrCat(key, ": ", status.message());
  }
  std::string& entry = values[key];
  absl::StrAppend(&entry, entry.empty() ? "" : ",", value);
  return "";
}

}  // namespace

ConfigFile ParseConfigFile(absl::string_view path, absl::string_view text) {
  ConfigFile file;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    const std::string error = TakeLine(line, file.values);
    if (!error.empty()) {
      file.errors.push_back(absl::StrCat(path, ":", number, ": ", error));
    }
  }
  for (const char* key : {"cache", kMountpointKey}) {
    if (file.values.count(key) == 0) {
      file.errors.push_back(absl::StrCat(path, ": ", key, " is missing"));
    }
  }
  // What lines do not show by themselves, as an image that is there twice.
  std::map<std::string, std::string> settings = file.values;
  settings.erase(kMountpointKey);
  const absl::Status whole = ReadSettings(settings).status();
  if (!whole.ok() && file.errors.empty()) {
    file.errors.push_back(absl::StrCat(path, ": ", whole.message()));
  }
  return file;
}

absl::StatusOr<std::string> ReadConfigText(const std::string& path) {
  errno = 0;
  std::ifstream stream(path, std::ios::binary);
  std::string text(kMaxSize + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!stream.is_open() || stream.bad() ||
      (stream.gcount() == 0 && errno != 0)) {
    return absl::ErrnoToStatus(errno != 0 ? errno : EIO,
                               absl::StrCat("config ", path));
  }
  text.resize(stream.gcount());
  if (text.size() <= kMaxSize) return text;
  return absl::InvalidArgumentError(
      absl::StrCat("config ", path, ": want at most ", kMaxSize, " bytes"));
}

absl::StatusOr<std::map<std::string, std::string>> ReadConfigFile(
    const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadConfigText(path));
  ConfigFile file = ParseConfigFile(path, text);
  if (file.errors.empty()) return std::move(file.values);
  return absl::InvalidArgumentError(file.errors[0]);
}

absl::StatusOr<std::string> FindMountpoint(const std::string& path) {
  struct stat attributes;
  if (stat(path.c_str(), &attributes) != 0 || !S_ISREG(attributes.st_mode)) {
    return path;
  }
  ASSIGN_OR_RETURN(auto values, ReadConfigFile(path));
  return values[kMountpointKey];
}

}  // namespace pcachefs
