#include "iobackend/device_identity.h"

#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "iobackend/file_io.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// What a record can hold.
constexpr size_t kMaxTextLength = 255;

// The end of a path tells more than its beginning.
std::string Shorten(std::string text) {
  if (text.size() <= kMaxTextLength) return text;
  return "..." + text.substr(text.size() - (kMaxTextLength - 3));
}

absl::StatusOr<std::string> FileText(const std::string& path, int fd,
                                     const struct stat& status) {
  struct statfs file_system;
  if (fstatfs(fd, &file_system) != 0) {
    return PathError("ask for the file system", path, errno);
  }
  uint64_t id;
  static_assert(sizeof(id) == sizeof(file_system.f_fsid));
  std::memcpy(&id, &file_system.f_fsid, sizeof(id));
  if (id == 0) {
    // FUSE and some others do not say which file system they are, and inode
    // numbers repeat from one to the next.
    std::error_code error;
    const auto canonical = std::filesystem::canonical(path, error);
    if (!error) {
      return Shorten(absl::StrFormat("ino=%d,path=%s", status.st_ino,
                                     canonical.string()));
    }
  }
  return absl::StrFormat("ino=%d,fsid=%x", status.st_ino, id);
}

// The directory of a whole disk below /sys, for which a name is looked up.
std::string DiskText(const std::string& disk) {
  struct Source {
    const char* name;
    const char* file;
  };
  constexpr Source kSources[] = {
      {"wwid", "/wwid"},
      {"wwid", "/device/wwid"},
      {"serial", "/serial"},
      {"serial", "/device/serial"},
      {"dm", "/dm/uuid"},
      {"md", "/md/uuid"},
      {"loop", "/loop/backing_file"},
  };
  for (const Source& source : kSources) {
    const std::string value = ReadFirstLine(disk + source.file);
    if (!value.empty()) return absl::StrCat(source.name, "=", value);
  }
  return absl::StrCat("dev=", disk);
}

std::string BlockDeviceText(const struct stat& status) {
  const std::string link = absl::StrFormat(
      "/sys/dev/block/%d:%d", major(status.st_rdev), minor(status.st_rdev));
  std::error_code error;
  const std::filesystem::path device = std::filesystem::canonical(link, error);
  if (error) return absl::StrCat("dev=", link);

  const std::string partition = ReadFirstLine((device / "partition").string());
  if (partition.empty()) return DiskText(device.string());
  return absl::StrCat(DiskText(device.parent_path().string()),
                      ",part=", partition);
}

}  // namespace

absl::StatusOr<BackingIdentity> IdentifyDevice(const std::string& path,
                                               int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return PathError("stat", path, errno);

  BackingIdentity identity;
  ASSIGN_OR_RETURN(identity.size, FileSize(path, fd));
  if (identity.size == 0 || !IsAligned(identity.size, kSectorSize)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": got a size of ", identity.size,
        " bytes, wanted a multiple of ", kSectorSize, " greater than 0"));
  }
  if (S_ISBLK(status.st_mode)) {
    identity.kind = BackingKind::kBlockDevice;
    identity.text = Shorten(BlockDeviceText(status));
  } else {
    identity.kind = BackingKind::kFile;
    ASSIGN_OR_RETURN(identity.text, FileText(path, fd, status));
  }
  return identity;
}

std::string Describe(const BackingIdentity& identity) {
  return absl::StrCat(
      identity.kind == BackingKind::kBlockDevice ? "block device " : "file ",
      identity.text, ", ", identity.size, " bytes");
}

}  // namespace pcachefs
