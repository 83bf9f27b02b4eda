// Opens cache and backing devices: regular files, tmpfs files, block devices,
// DAX devices, NBD exports. Every open device is locked against other users for its life.

#ifndef PCACHEFS_IOBACKEND_OPEN_DEVICE_H_
#define PCACHEFS_IOBACKEND_OPEN_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "iobackend/backing_device.h"
#include "iobackend/cache_device.h"

namespace pcachefs {

struct CacheDeviceOptions {
  // 0: the file or device must exist. Else a regular file of this size is
  // created (mode 0600, space allocated, no symbolic link followed) if the path
  // does not exist; AlreadyExists is never returned: see `created`.
  uint64_t create_size = 0;
  // For tools that only look: writes are refused and the lock is shared, so
  // that several may look at a time, but not while a daemon serves.
  bool read_only = false;
};

struct OpenedCacheDevice {
  std::unique_ptr<CacheDevice> device;
  bool created = false;
};

// NotFound: no such path and no create_size. FailedPrecondition: in use by
// another process (whose pid is named if it can be learnt), or neither file nor
// device, or a symbolic link to a file: links are followed to block devices
// only, as in /dev/disk/by-id. ResourceExhausted: no space for create_size; the
// file is removed. PermissionDenied as the system says. Messages name path,
// got, wanted.
//
// tmpfs files are mapped; so are files on DAX file systems and devices of
// persistent memory (/dev/dax*). All else, /dev/pmem* included, which Linux
// gives no direct mapping, is read and written through the page cache.
absl::StatusOr<OpenedCacheDevice> OpenCacheDevice(
    const std::string& path, const CacheDeviceOptions& options);

enum class BackingExecutor {
  kAuto,         // io_uring, or synchronous where the kernel refuses it
  kUring,        // Unavailable where the kernel refuses it
  kSynchronous,  // on the caller's thread: for tools
};

struct BackingDeviceOptions {
  BackingExecutor executor = BackingExecutor::kAuto;
  bool read_only = false;  // the lock is shared with other readers
  int rings = 0;           // 0: as many as processors, at most 4
  int queue_depth = 128;   // per ring: requests in flight
  bool direct = true;      // O_DIRECT where the device offers it
  // Of NBD devices: connections, at most, if the server allows several; and how
  // long a server may be silent before a request fails.
  int nbd_connections = 4;
  absl::Duration nbd_timeout = absl::Seconds(30);
};

// `spec` is a path (made absolute) to a regular file or block device; symbolic
// links are followed. Or it is an NBD URI: nbd_backing_device.h. Errors as above; InvalidArgument if the size is 0 or not
// a multiple of kSectorSize. How devices are identified: device_identity.h.
absl::StatusOr<std::unique_ptr<BackingDevice>> OpenBackingDevice(
    const std::string& spec, const BackingDeviceOptions& options);

// Who the device at `spec` is, without locking it.
absl::StatusOr<BackingIdentity> IdentifyBackingDevice(const std::string& spec);

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_OPEN_DEVICE_H_
