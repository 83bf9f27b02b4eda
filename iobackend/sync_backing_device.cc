#include "iobackend/sync_backing_device.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace pcachefs {

void SyncBackingDevice::Submit(std::vector<BackingRequest> requests,
                               Submission) {
  for (BackingRequest& request : requests) {
    BackingTransfer transfer(*file_, std::move(request));
    while (!transfer.is_finished()) transfer.Advance(Make(transfer.call()));
    transfer.Finish();
  }
}

// Returns the result of the call, or -errno.
int64_t SyncBackingDevice::Make(const BackingCall& call) {
  int64_t result = 0;
  switch (call.function) {
    case BackingCall::Function::kReadv:
      result = preadv(call.fd, call.buffers, call.buffer_count, call.offset);
      break;
    case BackingCall::Function::kWritev:
      result = pwritev(call.fd, call.buffers, call.buffer_count, call.offset);
      break;
    case BackingCall::Function::kFallocate:
      result = fallocate(call.fd, call.mode, call.offset, call.length);
      break;
    case BackingCall::Function::kFdatasync: {
      absl::MutexLock lock(&flush_mutex_);
      return fdatasync(call.fd) < 0 ? -errno : 0;
    }
  }
  return result < 0 ? -errno : result;
}

}  // namespace pcachefs
