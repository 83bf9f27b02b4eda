#include "iobackend/nbd_backing_device.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/notification.h"
#include "glog/logging.h"
#include "iobackend/monotonic_time.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

BackingIdentity IdentityOf(const NbdUri& uri, const NbdLimits& limits) {
  return {.kind = BackingKind::kNbd, .size = limits.size, .text = uri.identity};
}

// There is no file to lock. A name among the abstract sockets of the machine (of
// its network namespace) belongs to one process at a time, and goes with it.
absl::StatusOr<FileDescriptor> LockExport(const NbdUri& uri) {
  FileDescriptor lock(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string name =
      absl::StrFormat("pcachefs-nbd-%016x-%d",
                      std::hash<std::string>()(uri.identity),
                      uri.identity.size());
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const socklen_t length = offsetof(sockaddr_un, sun_path) + 1 + name.size();
  if (lock.is_open() &&
      bind(lock.get(), reinterpret_cast<const sockaddr*>(&address), length) ==
          0) {
    return lock;
  }
  if (errno != EADDRINUSE) return PathError("lock", uri.text, errno);
  return absl::FailedPreconditionError(
      absl::StrCat(uri.text, " (", uri.identity,
                   "): in use by a cache of this machine, wanted exclusive "
                   "use; stop that one or detach the image there"));
}

absl::StatusOr<std::unique_ptr<NbdHandle>> ConnectOnce(
    const NbdUri& uri, absl::Duration timeout) {
  return NbdHandle::Connect(uri, MonotonicNow() + timeout, /*wake_fd=*/-1,
                            [] { return false; });
}

}  // namespace

absl::StatusOr<std::unique_ptr<NbdBackingDevice>> NbdBackingDevice::Open(
    const std::string& spec, const Options& options) {
  if (options.connections < 1 || options.queue_depth < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        spec, ": got ", options.connections, " connections of depth ",
        options.queue_depth, ", wanted at least 1"));
  }
  ASSIGN_OR_RETURN(const NbdUri uri, ParseNbdUri(spec));
  // Several may read.
  FileDescriptor lock;
  if (!options.read_only) {
    ASSIGN_OR_RETURN(lock, LockExport(uri));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<NbdHandle> handle,
                   ConnectOnce(uri, options.times.connect));
  const NbdLimits limits = handle->limits();
  if (limits.read_only && !options.read_only) {
    return absl::PermissionDeniedError(absl::StrCat(
        uri.text,
        ": the server exports it read-only, wanted to write: export it "
        "writable or attach it read-only"));
  }
  if (!limits.can_flush && !options.read_only) {
    LOG(WARNING) << uri.text
                 << ": the server has no flush; what it acknowledges is taken "
                    "for durable";
  }

  auto device = absl::WrapUnique(
      new NbdBackingDevice(uri, limits, options, std::move(lock)));
  const int connections = limits.can_multi_conn ? options.connections : 1;
  for (int port = 0; port < connections; ++port) {
    device->connections_.push_back(std::make_unique<NbdConnection>(
        device->shared_, device->queue_, port, std::move(handle)));
  }
  device->EstimateAllocation();
  return device;
}

absl::StatusOr<BackingIdentity> NbdBackingDevice::Identify(
    const std::string& spec) {
  ASSIGN_OR_RETURN(const NbdUri uri, ParseNbdUri(spec));
  ASSIGN_OR_RETURN(std::unique_ptr<NbdHandle> handle,
                   ConnectOnce(uri, NbdTimes().connect));
  handle->Disconnect();
  return IdentityOf(uri, handle->limits());
}

NbdBackingDevice::NbdBackingDevice(const NbdUri& uri, const NbdLimits& limits,
                                   const Options& options, FileDescriptor lock)
    : shared_{.uri = uri,
              .limits = limits,
              .read_only = options.read_only,
              .times = options.times,
              .size = limits.size},
      identity_(IdentityOf(uri, limits)),
      lock_(std::move(lock)),
      allocated_bytes_(limits.size),
      queue_(uri.text, limits, limits.can_multi_conn ? options.connections : 1,
             options.queue_depth, options.times.deadline) {}

NbdBackingDevice::~NbdBackingDevice() {
  queue_.Close();
  connections_.clear();
}

uint32_t NbdBackingDevice::block_size() const {
  return std::min<uint32_t>(shared_.limits.min_block, kBlockSize);
}

void NbdBackingDevice::Submit(std::vector<BackingRequest> requests,
                              Submission submission) {
  for (BackingRequest& request : requests) {
    absl::Status status = Validate(request);
    if (!status.ok()) {
      queue_.Answer(std::move(request.done), std::move(status));
    } else if (request.operation == BackingRequest::Operation::kFlush) {
      queue_.AddFlush(std::move(request.done));
    } else {
      queue_.Add(std::make_unique<NbdTransfer>(std::move(request), MonotonicNow()),
                 submission == Submission::kDirect);
    }
  }
}

absl::Status NbdBackingDevice::Validate(const BackingRequest& request) const {
  using Operation = BackingRequest::Operation;
  if (request.operation == Operation::kFlush) return absl::OkStatus();
  if (request.operation != Operation::kRead && is_read_only()) {
    return absl::FailedPreconditionError(
        absl::StrCat(spec(), ": write to a device opened read-only"));
  }
  if (!IsAligned(request.offset | request.length, kSectorSize)) {
    return absl::InvalidArgumentError(absl::StrCat(
        spec(), ": got a request of ", request.length, " bytes at offset ",
        request.offset, ", wanted multiples of ", kSectorSize));
  }
  RETURN_IF_ERROR(CheckRange(spec(), request.offset, request.length, size()));
  if (request.operation != Operation::kRead &&
      request.operation != Operation::kWrite) {
    return absl::OkStatus();
  }
  uint64_t length = 0;
  for (const auto& buffer : request.buffers) length += buffer.size();
  if (length == request.length) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(spec(), ": got buffers of ", length,
                   " bytes for a request of ", request.length));
}

absl::StatusOr<BackingDevice::Extent> NbdBackingDevice::FindExtent(
    uint64_t offset) {
  const uint64_t size = this->size();
  if (offset >= size) return CheckRange(spec(), offset, 1, size);
  Extent extent = {.length = size - offset, .is_hole = false};
  if (!shared_.limits.can_tell_extents) return extent;

  absl::Status result;
  absl::Notification done;
  // For no answer at all, which a server may give.
  extent.length = std::min(extent.length, kMiB);
  queue_.Add(std::make_unique<NbdTransfer>(
                 offset, size - offset, &extent,
                 [&](absl::Status status) {
                   result = std::move(status);
                   done.Notify();
                 },
                 MonotonicNow()),
             /*may_wait=*/false);
  done.WaitForNotification();
  RETURN_IF_ERROR(result);
  // In whole sectors: one that is partly data is data.
  const uint64_t told = std::min(offset + extent.length, size);
  uint64_t end = extent.is_hole ? RoundDown(told, kSectorSize)
                                : RoundUp(told, kSectorSize);
  if (end <= offset) {
    extent.is_hole = false;
    end = std::min(RoundUp(offset + 1, kSectorSize), size);
  }
  extent.length = end - offset;
  return extent;
}

void NbdBackingDevice::EstimateAllocation() {
  if (!shared_.limits.can_tell_extents) return;
  constexpr int kMaxExtents = 256;
  const absl::Time end = MonotonicNow() + absl::Milliseconds(300);
  uint64_t offset = 0;
  uint64_t data = 0;
  for (int i = 0; i < kMaxExtents && offset < size() && MonotonicNow() < end;
       ++i) {
    const absl::StatusOr<Extent> extent = FindExtent(offset);
    if (!extent.ok()) return;
    if (!extent->is_hole) data += extent->length;
    offset += extent->length;
  }
  const double share = offset == 0 ? 1 : static_cast<double>(data) / offset;
  allocated_bytes_ = RoundUp(static_cast<uint64_t>(share * size()), kSectorSize);
}

absl::Status NbdBackingDevice::Refresh() {
  if (!shared_.limits.can_multi_conn) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::unique_ptr<NbdHandle> handle,
                   ConnectOnce(shared_.uri, shared_.times.connect));
  handle->Disconnect();
  const uint64_t got = handle->limits().size;
  uint64_t known = size();
  if (got < known) {
    return absl::InvalidArgumentError(
        absl::StrCat(spec(), ": became smaller: got ", got,
                     " bytes, wanted at least ", known));
  }
  // Another thread may have seen more by now.
  while (known < got && !shared_.size.compare_exchange_weak(known, got)) {
  }
  return absl::OkStatus();
}

}  // namespace pcachefs
