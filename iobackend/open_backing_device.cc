#include <fcntl.h>
#include <glog/logging.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iobackend/backing_file.h"
#include "iobackend/device_identity.h"
#include "iobackend/nbd_backing_device.h"
#include "iobackend/nbd_uri.h"
#include "iobackend/open_device.h"
#include "iobackend/ring.h"
#include "iobackend/sync_backing_device.h"
#include "iobackend/uring_backing_device.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

bool KernelOffersUring() {
  const absl::Status status = Ring::Create(1).status();
  if (status.ok()) {
    LOG(INFO) << "backing devices are accessed through io_uring";
  } else {
    LOG(WARNING) << "backing devices are accessed synchronously: "
                 << status.message();
  }
  return status.ok();
}

bool UseUring(BackingExecutor executor) {
  if (executor != BackingExecutor::kAuto) {
    return executor == BackingExecutor::kUring;
  }
  static const bool offered = KernelOffersUring();  // tells once
  return offered;
}

}  // namespace

absl::StatusOr<std::unique_ptr<BackingDevice>> OpenBackingDevice(
    const std::string& spec, const BackingDeviceOptions& options) {
  if (IsNbdUri(spec)) {
    return NbdBackingDevice::Open(
        spec, {.read_only = options.read_only,
               .connections = options.nbd_connections,
               .times = {.deadline = options.nbd_timeout}});
  }
  ASSIGN_OR_RETURN(std::unique_ptr<BackingFile> file,
                   BackingFile::Open(spec, {.read_only = options.read_only,
                                            .direct = options.direct}));
  if (!UseUring(options.executor)) {
    return std::make_unique<SyncBackingDevice>(std::move(file));
  }
  return UringBackingDevice::Create(
      std::move(file),
      {.rings = options.rings, .queue_depth = options.queue_depth});
}

absl::StatusOr<BackingIdentity> IdentifyBackingDevice(const std::string& spec) {
  if (IsNbdUri(spec)) return NbdBackingDevice::Identify(spec);
  const std::string path = AbsolutePath(spec);
  // Not to wait for the writer of a pipe.
  const FileDescriptor file = OpenFile(path, O_RDONLY | O_NONBLOCK);
  if (!file.is_open()) return PathError("open", path, errno);
  return IdentifyDevice(path, file.get());
}

}  // namespace pcachefs
