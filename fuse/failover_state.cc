#include "fuse/failover_state.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <memory>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace pcachefs {
namespace {

constexpr size_t kSize = sizeof(SharedFailoverState);

// The same in all processes, and does not jump.
int64_t MonotonicNow() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::ToInt64Nanoseconds(absl::DurationFromTimespec(now));
}

absl::StatusOr<SharedFailoverState*> Map(int fd) {
  void* memory =
      mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    return absl::ErrnoToStatus(errno, "mapping the state of failover");
  }
  return static_cast<SharedFailoverState*>(memory);
}

}  // namespace

absl::StatusOr<std::unique_ptr<FailoverState>> FailoverState::Create() {
  const int fd = memfd_create("pcachefs-failover", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, kSize) != 0) {
    const int error = errno;
    if (fd >= 0) close(fd);
    return absl::ErrnoToStatus(error, "memory for the state of failover");
  }
  const absl::StatusOr<SharedFailoverState*> shared = Map(fd);
  if (!shared.ok()) {
    close(fd);
    return shared.status();
  }
  (*shared)->magic = SharedFailoverState::kMagic;
  (*shared)->size = kSize;
  return absl::WrapUnique(new FailoverState(fd, *shared));
}

absl::StatusOr<std::unique_ptr<FailoverState>> FailoverState::Open(int fd) {
  struct stat attributes = {};
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  // One that is too short would kill who reads it.
  if (fstat(fd, &attributes) != 0 ||
      attributes.st_size != static_cast<off_t>(kSize)) {
    close(fd);
    return absl::FailedPreconditionError(absl::StrCat(
        "state of failover: got ", attributes.st_size, " bytes, want ", kSize,
        "; this version cannot take over from that one, restart instead"));
  }
  const absl::StatusOr<SharedFailoverState*> shared = Map(fd);
  if (!shared.ok()) {
    close(fd);
    return shared.status();
  }
  auto state = absl::WrapUnique(new FailoverState(fd, *shared));
  if ((*shared)->magic != SharedFailoverState::kMagic ||
      (*shared)->size != kSize) {
    return absl::FailedPreconditionError(
        "state of failover: laid out by another version; this one cannot take "
        "over from it, restart instead");
  }
  return state;
}

FailoverState::~FailoverState() {
  munmap(shared_, kSize);
  close(fd_);
}

void FailoverState::NoteGone() {
  int64_t somebody = 0;
  shared_->counts.gone_since_ns.compare_exchange_strong(somebody,
                                                        MonotonicNow());
}

absl::Duration FailoverState::NoteServing() {
  SharedCounts& counts = shared_->counts;
  const int64_t since = counts.gone_since_ns.exchange(0);
  if (since == 0) return absl::ZeroDuration();
  const int64_t pause = MonotonicNow() - since;
  counts.last_pause_ns = pause;
  counts.longest_pause_ns = std::max<int64_t>(counts.longest_pause_ns, pause);
  return absl::Nanoseconds(pause);
}

}  // namespace pcachefs
