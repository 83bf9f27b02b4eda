#include "tools/foreign_content.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "iobackend/cache_device.h"
#include "meta/status_macros.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

using absl::string_view;

struct Magic {
  size_t offset;
  string_view bytes;
  const char* name;
};

// The more telling ones first: a boot sector may stand in front of anything.
constexpr Magic kMagics[] = {
    {0, "XFSB", "an xfs file system"},
    {0, "LUKS\xba\xbe", "a LUKS volume"},
    {0, "QFI\xfb", "a qcow2 image"},
    {0, "hsqs", "a squashfs file system"},
    {0, "SQLite format 3", "an SQLite database"},
    {0,
     "\x7f"
     "ELF",
     "a program"},
    {512, "LABELONE", "an LVM physical volume"},
    {512, "EFI PART", "a GPT partition table"},
    {1080, "\x53\xef", "an ext2, ext3 or ext4 file system"},
    {1024, "\x10\x20\xf5\xf2", "an f2fs file system"},
    {4096, "\xfc\x4e\x2b\xa9", "a member of an md array"},
    {4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca", "a bcache device"},
    {4086, "SWAPSPACE2", "a swap area"},
    {32769, "CD001", "an ISO 9660 file system"},
    {65600, "_BHRfS_M", "a btrfs file system"},
    {510, "\x55\xaa", "a partition table or boot sector"},
};

bool IsZero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](std::byte byte) { return byte == std::byte{0}; });
}

bool HasMagic(std::span<const std::byte> bytes, const Magic& magic) {
  return bytes.size() >= magic.offset + magic.bytes.size() &&
         memcmp(bytes.data() + magic.offset, magic.bytes.data(),
                magic.bytes.size()) == 0;
}

constexpr char kUnknown[] = "data of an unknown kind";

}  // namespace

std::string DescribeContent(std::span<const std::byte> bytes) {
  if (IsZero(bytes)) return "";
  for (const Magic& magic : kMagics) {
    if (HasMagic(bytes, magic)) return magic.name;
  }
  return kUnknown;
}

absl::StatusOr<std::string> DescribeDevice(CacheDevice& device) {
  std::vector<std::byte> bytes(std::min(device.size(), kMiB));
  RETURN_IF_ERROR(device.Read(MediaOffset(0), bytes));
  const std::string content = DescribeContent(bytes);
  if (!content.empty()) return content;
  RETURN_IF_ERROR(
      device.Read(MediaOffset(device.size() - bytes.size()), bytes));
  return std::string(IsZero(bytes) ? "" : kUnknown);
}

}  // namespace pcachefs
