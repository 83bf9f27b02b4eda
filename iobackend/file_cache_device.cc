#include "iobackend/file_cache_device.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

constexpr int kRingDepth = 64;
// The kernel transfers less than 2 GiB at a time.
constexpr size_t kMaxTransfer = kGiB;

class ReadOperation final : public RingOperation {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  ReadOperation(const std::string& device, int fd, uint64_t offset,
                std::span<std::byte> out, Done done)
      : device_(device),
        fd_(fd),
        offset_(offset),
        out_(out),
        done_(std::move(done)) {}
  ReadOperation(const std::string& device, absl::Status status, Done done)
      : device_(device), status_(std::move(status)), done_(std::move(done)) {}

  bool needs_io() const override { return !out_.empty(); }

  void Prepare(io_uring_sqe* sqe) override {
    io_uring_prep_read(sqe, fd_, out_.data(),
                       std::min(out_.size(), kMaxTransfer), offset_);
  }

  bool Advance(int result) override {
    // ECANCELED: the thread that submitted ended.
    if (result == -EINTR || result == -EAGAIN || result == -ECANCELED) {
      return false;
    }
    if (result < 0) {
      status_ = IoError("read", device_, offset_, out_.size(), -result);
      return true;
    }
    if (result == 0) {
      status_ = EndOfDeviceError("read", device_, offset_, out_.size());
      return true;
    }
    out_ = out_.subspan(result);
    offset_ += result;
    return out_.empty();
  }

  void Finish() override { done_(std::move(status_)); }

 private:
  const std::string& device_;
  const int fd_ = -1;
  uint64_t offset_ = 0;
  std::span<std::byte> out_;
  absl::Status status_;
  Done done_;
};

// Pages that could not be written count as clean afterwards, and would be read
// from memory as if they were on the media (C9). Dirty ones stay.
void DropCleanPages(int file) {
  posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
}

}  // namespace

FileCacheDevice::FileCacheDevice(const std::string& name, FileDescriptor file,
                                 const Options& options, uint64_t size)
    : name_(name),
      file_(std::move(file)),
      read_only_(options.read_only),
      size_(size) {
  if (options.use_ring) {
    auto ring = Ring::Create(kRingDepth);
    if (ring.ok()) ring_ = *std::move(ring);
  }
  if (ring_ == nullptr) worker_ = std::make_unique<WorkerThread>();
}

FileCacheDevice::~FileCacheDevice() = default;

absl::StatusOr<std::unique_ptr<FileCacheDevice>> FileCacheDevice::Create(
    const std::string& name, FileDescriptor file, const Options& options) {
  ASSIGN_OR_RETURN(const uint64_t size, FileSize(name, file.get()));
  if (size == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": got an empty file, wanted a cache device"));
  }
  // The kernel tells of pages that it could not write once, to who asks first:
  // the daemon before us may have died without asking.
  if (!options.read_only && fdatasync(file.get()) != 0) {
    LOG(WARNING) << name
                 << ": writes before this start did not reach the media: "
                 << std::strerror(errno);
    DropCleanPages(file.get());
  }
  return absl::WrapUnique(
      new FileCacheDevice(name, std::move(file), options, size));
}

absl::Status FileCacheDevice::Read(MediaOffset offset,
                                   std::span<std::byte> out) {
  RETURN_IF_ERROR(CheckRange(name_, offset.value(), out.size(), size_));
  return ReadFully(name_, file_.get(), offset.value(), out);
}

absl::StatusOr<bool> FileCacheDevice::TryRead(MediaOffset offset,
                                              std::span<std::byte> out) {
  RETURN_IF_ERROR(CheckRange(name_, offset.value(), out.size(), size_));
  uint64_t place = offset.value();
  while (!out.empty() && can_try_.load(std::memory_order_relaxed)) {
    iovec buffer = {out.data(), out.size()};
    const ssize_t count = preadv2(file_.get(), &buffer, 1, place, RWF_NOWAIT);
    if (count > 0) {
      out = out.subspan(count);
      place += count;
    } else if (count == 0) {
      return EndOfDeviceError("read", name_, place, out.size());
    } else if (errno == EAGAIN) {
      return false;
    } else if (errno == EOPNOTSUPP || errno == ENOSYS) {
      can_try_.store(false, std::memory_order_relaxed);
    } else if (errno != EINTR) {
      return IoError("read", name_, place, out.size(), errno);
    }
  }
  RETURN_IF_ERROR(ReadFully(name_, file_.get(), place, out));
  return true;
}

void FileCacheDevice::ReadAsync(MediaOffset offset, std::span<std::byte> out,
                                absl::AnyInvocable<void(absl::Status)> done) {
  absl::Status status = CheckRange(name_, offset.value(), out.size(), size_);
  if (ring_ == nullptr) {
    worker_->Run([this, offset, out, done = std::move(done)]() mutable {
      done(Read(offset, out));
    });
    return;
  }
  std::vector<std::unique_ptr<RingOperation>> operations;
  if (status.ok()) {
    operations.push_back(std::make_unique<ReadOperation>(
        name_, file_.get(), offset.value(), out, std::move(done)));
  } else {
    operations.push_back(std::make_unique<ReadOperation>(
        name_, std::move(status), std::move(done)));
  }
  ring_->Submit(std::move(operations), RingStart::kIfRoom);
}

absl::Status FileCacheDevice::Write(MediaOffset offset,
                                    std::span<const std::byte> bytes) {
  if (read_only_) {
    return absl::FailedPreconditionError(
        absl::StrCat(name_, ": write to a device opened read-only"));
  }
  RETURN_IF_ERROR(CheckRange(name_, offset.value(), bytes.size(), size_));
  RETURN_IF_ERROR(CheckNotFailed());
  absl::Status status = WriteFully(name_, file_.get(), offset.value(), bytes);
  return status.ok() ? status : Fail(std::move(status));
}

absl::Status FileCacheDevice::Persist() {
  const uint64_t number = ++persists_begun_;
  absl::MutexLock lock(&persist_mutex_);
  RETURN_IF_ERROR(CheckNotFailed());
  // Another caller's fdatasync began after this call did.
  if (persists_covered_ >= number) return absl::OkStatus();

  const uint64_t covered = persists_begun_;
  int result;
  do {
    result = fdatasync(file_.get());
  } while (result != 0 && errno == EINTR);
  if (result != 0) return Fail(IoError("persist", name_, 0, size_, errno));
  persists_covered_ = covered;
  return absl::OkStatus();
}

absl::Status FileCacheDevice::CheckNotFailed() {
  if (!has_failed_.load(std::memory_order_acquire)) return absl::OkStatus();
  absl::MutexLock lock(&failure_mutex_);
  return failure_;
}

absl::Status FileCacheDevice::Fail(absl::Status failure) {
  DropCleanPages(file_.get());
  absl::MutexLock lock(&failure_mutex_);
  if (failure_.ok()) {
    failure_ = absl::UnavailableError(absl::StrCat(
        failure.message(), "; refused until the device is opened again"));
    has_failed_.store(true, std::memory_order_release);
  }
  // A full device is no more than a failed one here: its space was allocated.
  return absl::UnavailableError(failure.message());
}

absl::Status FileCacheDevice::Refresh() {
  ASSIGN_OR_RETURN(const uint64_t new_size, FileSize(name_, file_.get()));
  uint64_t old_size = size_;
  if (new_size < old_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(name_, ": became smaller: got ", new_size,
                     " bytes, wanted at least ", old_size));
  }
  while (old_size < new_size &&
         !size_.compare_exchange_weak(old_size, new_size)) {
  }
  return absl::OkStatus();
}

}  // namespace pcachefs
