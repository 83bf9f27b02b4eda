// Who a backing device is, so that a cache is never attached to the wrong one.
//
// The text is chosen to survive renaming and reboots:
//   regular file   "ino=<inode>,fsid=<hex>": file system and inode. A copy or a
//                  file restored from a backup is another device. On file
//                  systems whose fsid is made from the device number (XFS) it
//                  changes when their block device gets another number. On
//                  those that have no fsid (FUSE) "ino=<inode>,path=<path>".
//   block device   the first of these that the system knows, of the whole disk,
//                  with ",part=<n>" for a partition:
//                    "wwid=<id>"    world-wide id (NVMe, SCSI)
//                    "serial=<id>"  serial number (virtio)
//                    "dm=<uuid>"    device mapper (LVM, dm-crypt, ...)
//                    "md=<uuid>"    software RAID
//                    "loop=<path>"  the file behind a loop device
//                    "dev=<path>"   its place below /sys

#ifndef PCACHEFS_IOBACKEND_DEVICE_IDENTITY_H_
#define PCACHEFS_IOBACKEND_DEVICE_IDENTITY_H_

#include <string>

#include "absl/status/statusor.h"
#include "meta/records.h"

namespace pcachefs {

// Errors: FailedPrecondition if `fd` is neither regular file nor block device;
// InvalidArgument if its size is 0 or not a multiple of kSectorSize.
absl::StatusOr<BackingIdentity> IdentifyDevice(const std::string& path, int fd);

// "file ino=5,fsid=1f, 4096 bytes", for messages.
std::string Describe(const BackingIdentity& identity);

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_DEVICE_IDENTITY_H_
