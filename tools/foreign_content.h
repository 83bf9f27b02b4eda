// What stands on a device that is to be formatted, so that nothing is
// overwritten by mistake.

#ifndef PCACHEFS_TOOLS_FOREIGN_CONTENT_H_
#define PCACHEFS_TOOLS_FOREIGN_CONTENT_H_

#include <cstddef>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "iobackend/cache_device.h"

namespace pcachefs {

// "" if all bytes are zero, the name of a known format ("an ext4 file system"),
// or "data of an unknown kind". `bytes` begin at the start of a device.
std::string DescribeContent(std::span<const std::byte> bytes);

// The same of a device, judged by its first and last MiB.
absl::StatusOr<std::string> DescribeDevice(CacheDevice& device);

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_FOREIGN_CONTENT_H_
