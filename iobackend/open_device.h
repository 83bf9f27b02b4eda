// Opens cache and backing devices: regular files, tmpfs files, block devices,
// DAX devices. Every open device is locked against other users for its life.

#ifndef PCACHEFS_IOBACKEND_OPEN_DEVICE_H_
#define PCACHEFS_IOBACKEND_OPEN_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "iobackend/backing_device.h"
#include "iobackend/cache_device.h"

namespace pcachefs {

struct CacheDeviceOptions {
  // 0: the file or device must exist. Else a regular file of this size is
  // created (mode 0600, space allocated, no symbolic link followed) if the path
  // does not exist; AlreadyExists is never returned: see `created`.
  uint64_t create_size = 0;
  bool read_only = false;
  // Offline tools that only look: shared lock instead of an exclusive one.
};

struct OpenedCacheDevice {
  std::unique_ptr<CacheDevice> device;
  bool created = false;
};

// NotFound: no such path and no create_size. FailedPrecondition: in use by
// another process (whose pid is named if it can be learnt), or neither file nor
// device. ResourceExhausted: no space for create_size; the file is removed.
// PermissionDenied as the system says. Messages name path, got, wanted.
absl::StatusOr<OpenedCacheDevice> OpenCacheDevice(
    const std::string& path, const CacheDeviceOptions& options);

enum class BackingExecutor {
  kAuto,         // io_uring, or synchronous where the kernel refuses it
  kUring,        // Unavailable where the kernel refuses it
  kSynchronous,  // on the caller's thread: for tools
};

struct BackingDeviceOptions {
  BackingExecutor executor = BackingExecutor::kAuto;
  bool read_only = false;
  int rings = 0;            // 0: as many as processors, at most 4
  int queue_depth = 128;    // per ring: requests in flight
  bool direct = true;       // O_DIRECT where the device offers it
};

// `spec` is a path (made absolute) to a regular file or block device. Errors as
// above; InvalidArgument if the size is 0 or not a multiple of kSectorSize.
absl::StatusOr<std::unique_ptr<BackingDevice>> OpenBackingDevice(
    const std::string& spec, const BackingDeviceOptions& options);

// Who the device at `spec` is, without locking it.
absl::StatusOr<BackingIdentity> IdentifyBackingDevice(const std::string& spec);

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_OPEN_DEVICE_H_
