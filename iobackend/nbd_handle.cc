#include "iobackend/nbd_handle.h"

#include <poll.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "iobackend/monotonic_time.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// How often, while connecting, `cancelled` is asked at least.
constexpr absl::Duration kTick = absl::Milliseconds(100);
// Larger ones make memory for copies and the time of an answer grow, and
// little else.
constexpr uint64_t kMaxTransfer = kMiB;
// So that a range of any size neither holds up what comes after nor takes the
// server longer than it has.
constexpr uint64_t kMaxZero = 16 * kMiB;
// The largest minimum that the protocol allows.
constexpr int64_t kMaxMinBlock = 64 * kKiB;

}  // namespace

absl::StatusOr<std::unique_ptr<NbdHandle>> NbdHandle::Connect(
    const NbdUri& uri, absl::Time deadline, int wake_fd,
    absl::FunctionRef<bool()> cancelled) {
  auto handle = absl::WrapUnique(new NbdHandle(uri, nbd_create()));
  RETURN_IF_ERROR(handle->Start());
  while (nbd_aio_is_ready(handle->get()) != 1) {
    const absl::Duration left = deadline - MonotonicNow();
    if (left <= absl::ZeroDuration()) {
      return absl::UnavailableError(
          absl::StrCat(uri.text, ": the server does not answer"));
    }
    if (cancelled()) {
      return absl::CancelledError(absl::StrCat(uri.text, ": stopped"));
    }
    RETURN_IF_ERROR(handle->Poll(wake_fd, std::min(left, kTick)));
  }
  RETURN_IF_ERROR(handle->ReadLimits());
  return handle;
}

NbdHandle::~NbdHandle() {
  if (handle_ != nullptr) nbd_close(handle_);
}

absl::Status NbdHandle::Start() {
  if (handle_ == nullptr) return LastError();
  // Options of TLS name files; who gives the URI is who runs the daemon.
  if (nbd_set_uri_allow_local_file(handle_, true) < 0 ||
      nbd_set_uri_allow_transports(
          handle_, LIBNBD_ALLOW_TRANSPORT_TCP | LIBNBD_ALLOW_TRANSPORT_UNIX) <
          0 ||
      nbd_add_meta_context(handle_, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
      // Nobody looks at a buffer whose read failed.
      nbd_set_pread_initialize(handle_, false) < 0 ||
      nbd_aio_connect_uri(handle_, uri_.text.c_str()) < 0) {
    return LastError();
  }
  return absl::OkStatus();
}

absl::Status NbdHandle::ReadLimits() {
  const int64_t size = nbd_get_size(handle_);
  if (size < 0) return LastError();
  if (size == 0 || !IsAligned(uint64_t(size), kSectorSize)) {
    return absl::InvalidArgumentError(absl::StrCat(
        uri_.text, ": got a size of ", size, " bytes, wanted a multiple of ",
        kSectorSize, " greater than 0"));
  }
  const int64_t min_block = std::max<int64_t>(
      nbd_get_block_size(handle_, LIBNBD_SIZE_MINIMUM), kSectorSize);
  if (min_block > kMaxMinBlock || !std::has_single_bit(uint64_t(min_block)) ||
      size % min_block != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        uri_.text, ": got blocks of at least ", min_block, " bytes on ", size,
        " bytes, wanted a power of two up to ", kMaxMinBlock,
        " that divides the size"));
  }
  const int64_t max_block = nbd_get_block_size(handle_, LIBNBD_SIZE_MAXIMUM);
  const uint64_t max_transfer =
      max_block > 0 ? std::min<uint64_t>(max_block, kMaxTransfer)
                    : kMaxTransfer;

  limits_.size = size;
  limits_.min_block = min_block;
  limits_.max_transfer = std::max<uint64_t>(
      RoundDown(max_transfer, uint64_t(min_block)), min_block);
  limits_.max_zero = kMaxZero;
  limits_.read_only = nbd_is_read_only(handle_) == 1;
  limits_.can_flush = nbd_can_flush(handle_) == 1;
  limits_.can_zero = nbd_can_zero(handle_) == 1;
  limits_.can_multi_conn = nbd_can_multi_conn(handle_) == 1;
  limits_.can_tell_extents =
      nbd_can_meta_context(handle_, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
  return absl::OkStatus();
}

absl::Status NbdHandle::Poll(int wake_fd, absl::Duration timeout) {
  // It may have died while a command was issued, which nobody was told.
  RETURN_IF_ERROR(CheckAlive());
  const unsigned direction = nbd_aio_get_direction(handle_);
  pollfd fds[2] = {{.fd = nbd_aio_get_fd(handle_), .events = 0, .revents = 0},
                   {.fd = wake_fd, .events = POLLIN, .revents = 0}};
  if (direction & LIBNBD_AIO_DIRECTION_READ) fds[0].events |= POLLIN;
  if (direction & LIBNBD_AIO_DIRECTION_WRITE) fds[0].events |= POLLOUT;
  const int64_t milliseconds = absl::ToInt64Milliseconds(
      std::clamp(timeout, absl::ZeroDuration(), absl::Hours(1)));
  // Rounded up, or the end of the wait would be spent spinning.
  if (poll(fds, 2, static_cast<int>(milliseconds) + 1) < 0 && errno != EINTR) {
    return absl::UnavailableError(
        absl::StrCat(uri_.text, ": poll failed with errno ", errno));
  }
  // An error is found by whichever of the two libnbd waits for.
  const bool failed = (fds[0].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
  int result = 0;
  if ((direction & LIBNBD_AIO_DIRECTION_READ) &&
      (failed || (fds[0].revents & POLLIN))) {
    result = nbd_aio_notify_read(handle_);
  } else if ((direction & LIBNBD_AIO_DIRECTION_WRITE) &&
             (failed || (fds[0].revents & POLLOUT))) {
    result = nbd_aio_notify_write(handle_);
  }
  if (result < 0) return LastError();
  return CheckAlive();
}

absl::Status NbdHandle::CheckAlive() const {
  if (nbd_aio_is_dead(handle_) == 1 || nbd_aio_is_closed(handle_) == 1) {
    return absl::UnavailableError(
        absl::StrCat(uri_.text, ": the server closed the connection"));
  }
  return absl::OkStatus();
}

void NbdHandle::Disconnect() { nbd_aio_disconnect(handle_, 0); }

absl::Status NbdHandle::LastError() const {
  const int error_number = nbd_get_errno();
  const char* const said = nbd_get_error();
  absl::string_view text = said == nullptr ? "no reason given" : said;
  if (const size_t colon = text.find(": ");
      absl::StartsWith(text, "nbd_") && colon != absl::string_view::npos) {
    text.remove_prefix(colon + 2);
  }
  const std::string message =
      absl::StrCat(uri_.text, ": ", absl::StripAsciiWhitespace(text));
  if (error_number == ENOENT) return absl::NotFoundError(message);
  return absl::UnavailableError(message);
}

}  // namespace pcachefs
