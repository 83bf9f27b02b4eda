#include "tools/mountpoint.h"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

namespace fs = std::filesystem;

absl::Status CheckDirectory(const std::string& path) {
  // Asks for something within as well: of a mount whose daemon has just died
  // the kernel may still remember the directory itself.
  struct stat attributes;
  const std::string within = path + "/.pcache/status.json";
  if ((stat(path.c_str(), &attributes) != 0 && errno == ENOTCONN) ||
      (stat(within.c_str(), &attributes) != 0 && errno == ENOTCONN)) {
    return absl::FailedPreconditionError(
        absl::StrCat("mountpoint ", path, ": is the mount of a daemon that ",
                     "has died; remove it with: umount ", path));
  }
  if (stat(path.c_str(), &attributes) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("mountpoint ", path));
  }
  if (S_ISDIR(attributes.st_mode)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("mountpoint ", path, ": is no directory"));
}

std::string ReadMountinfo() {
  std::ifstream file("/proc/self/mountinfo");
  return {std::istreambuf_iterator<char>(file),
          std::istreambuf_iterator<char>()};
}

bool IsOctal(char c) { return c >= '0' && c <= '7'; }

// Space, tab, newline and backslash stand as \040 and so on.
std::string Unescape(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && IsOctal(text[i + 1]) &&
        IsOctal(text[i + 2]) && IsOctal(text[i + 3])) {
      out += static_cast<char>((text[i + 1] - '0') * 64 +
                               (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

absl::Status CheckDevices(const std::string& mountpoint,
                          const std::vector<std::string>& devices) {
  for (const std::string& device : devices) {
    std::error_code error;
    const std::string real = fs::weakly_canonical(device, error).string();
    if (!error && absl::StartsWith(real, mountpoint + "/")) {
      return absl::FailedPreconditionError(
          absl::StrCat("mountpoint ", mountpoint, ": would cover ", device,
                       ", which the cache needs; choose another directory"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string MountTypeAt(const std::string& path, const std::string& mountinfo) {
  std::string type;
  std::istringstream lines(mountinfo);
  for (std::string line; std::getline(lines, line);) {
    // 36 35 98:0 /root /mount/point options [fields...] - type source options
    const std::vector<std::string> fields = absl::StrSplit(line, ' ');
    if (fields.size() < 7 || Unescape(fields[4]) != path) continue;
    for (size_t i = 6; i + 1 < fields.size(); ++i) {
      if (fields[i] == "-") type = fields[i + 1];
    }
  }
  return type;
}

absl::StatusOr<std::string> CheckMountpoint(
    const std::string& path, const std::vector<std::string>& devices) {
  RETURN_IF_ERROR(CheckDirectory(path));
  std::error_code error;
  const std::string real = fs::canonical(path, error).string();
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat("mountpoint ", path, ": ", error.message()));
  }
  const std::string type = MountTypeAt(real, ReadMountinfo());
  if (!type.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("mountpoint ", real, ": a file system of type ", type,
                     " is mounted there already; choose another directory"));
  }
  if (!fs::is_empty(real, error) || error) {
    return absl::FailedPreconditionError(absl::StrCat(
        "mountpoint ", real, ": is not empty; choose an empty directory"));
  }
  RETURN_IF_ERROR(CheckDevices(real, devices));
  return real;
}

}  // namespace pcachefs
