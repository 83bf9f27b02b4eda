#include "iobackend/nbd_connection.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "iobackend/file_io.h"
#include "iobackend/monotonic_time.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Of the deadline, for a command whose server answers others.
constexpr int kPatience = 10;

absl::Status FlushError(const std::string& device, int error_number) {
  return absl::UnavailableError(
      absl::ErrnoToStatus(error_number, absl::StrCat(device, ": flush"))
          .message());
}

absl::Status Difference(const NbdShared& shared, const std::string& what) {
  return absl::FailedPreconditionError(absl::StrCat(
      shared.uri.text, ": the server came back as another: ", what));
}

}  // namespace

absl::Status CheckSameExport(const NbdShared& shared, const NbdLimits& limits) {
  if (limits.size < shared.size) {
    return Difference(shared, absl::StrCat("got ", limits.size,
                                           " bytes, wanted ",
                                           shared.size.load()));
  }
  const NbdLimits& wanted = shared.limits;
  if (limits.read_only && !shared.read_only) {
    return Difference(shared, "got a read-only export, wanted to write");
  }
  if (limits.min_block > wanted.min_block ||
      limits.max_transfer < wanted.max_transfer) {
    return Difference(
        shared, absl::StrCat("got blocks of ", limits.min_block, " to ",
                             limits.max_transfer, " bytes, wanted ",
                             wanted.min_block, " to ", wanted.max_transfer));
  }
  if (limits.can_flush != wanted.can_flush ||
      limits.can_zero < wanted.can_zero ||
      limits.can_tell_extents < wanted.can_tell_extents ||
      limits.can_multi_conn < wanted.can_multi_conn) {
    return Difference(shared,
                      "it offers other commands; detach and attach the image");
  }
  return absl::OkStatus();
}

NbdConnection::NbdConnection(NbdShared& shared, NbdQueue& queue, int port,
                             std::unique_ptr<NbdHandle> handle)
    : shared_(shared),
      queue_(queue),
      port_(port),
      handle_(std::move(handle)),
      back_off_(shared.times.retry_first) {
  thread_ = std::thread(&NbdConnection::Loop, this);
}

NbdConnection::~NbdConnection() { thread_.join(); }

void NbdConnection::Loop() {
  while (true) {
    absl::Status status =
        handle_ != nullptr ? absl::OkStatus() : Connect();
    if (status.ok()) {
      queue_.Connected(port_);
      status = Serve();
      if (status.ok()) return;
      Drop(status);
    } else {
      queue_.CouldNotConnect(port_, status);
    }
    WaitToRetry(back_off_);
    if (queue_.is_done()) return;
    back_off_ = std::min(back_off_ * 2, shared_.times.retry_last);
  }
}

absl::Status NbdConnection::Connect() {
  if (queue_.is_closing()) return absl::CancelledError("stopped");
  ASSIGN_OR_RETURN(
      std::unique_ptr<NbdHandle> handle,
      NbdHandle::Connect(shared_.uri, MonotonicNow() + shared_.times.connect,
                         queue_.wake_fd(port_), [this] {
                           queue_.ClearWake(port_);
                           while (queue_.RunDone()) {
                           }
                           queue_.Expire();
                           return queue_.is_closing();
                         }));
  RETURN_IF_ERROR(CheckSameExport(shared_, handle->limits()));
  handle_ = std::move(handle);
  return absl::OkStatus();
}

void NbdConnection::WaitToRetry(absl::Duration how_long) {
  constexpr absl::Duration kTick = absl::Milliseconds(100);
  const absl::Time end = MonotonicNow() + how_long;
  while (true) {
    queue_.Expire();
    while (queue_.RunDone()) {
    }
    const absl::Duration left = end - MonotonicNow();
    if (left <= absl::ZeroDuration() || queue_.is_done()) return;
    queue_.Wait(port_, std::min(left, kTick));
  }
}

absl::Status NbdConnection::Serve() {
  last_answer_ = MonotonicNow();
  while (true) {
    if (queue_.RunDone()) continue;
    if (queue_.is_done()) {
      handle_->Disconnect();
      return absl::OkStatus();
    }
    if (handle_->limits().size < shared_.size) {
      return ConnectingAnew();
    }
    RETURN_IF_ERROR(SendAll());
    // libnbd may have read answers while it sent. What it refused, and a flush
    // of a server that has none, were answered meanwhile: nobody wakes us for
    // that.
    if (HandleCompleted() || queue_.RunDone()) continue;
    const absl::Time deadline = NextDeadline();
    RETURN_IF_ERROR(
        handle_->Poll(queue_.wake_fd(port_), deadline - MonotonicNow()));
    queue_.ClearWake(port_);
    HandleCompleted();
    if (is_shutting_down_) {
      return absl::UnavailableError(
          absl::StrCat(shared_.uri.text, ": the server is shutting down"));
    }
    if (NextDeadline() <= MonotonicNow()) {
      return absl::UnavailableError(
          absl::StrCat(shared_.uri.text, ": the server does not answer"));
    }
  }
}

absl::Status NbdConnection::ConnectingAnew() const {
  return absl::UnavailableError(
      absl::StrCat(shared_.uri.text, ": connecting anew for its new size"));
}

absl::Status NbdConnection::SendAll() {
  while (std::unique_ptr<NbdCommand> command = queue_.Take(port_)) {
    command->Start(shared_.limits);
    in_flight_.push_back(std::move(command));
    NbdCommand& sent = *in_flight_.back();
    if (!sent.is_flush() &&
        sent.offset() + sent.length() > handle_->limits().size) {
      return ConnectingAnew();
    }
    RETURN_IF_ERROR(Send(sent));
  }
  return absl::OkStatus();
}

absl::Status NbdConnection::Send(NbdCommand& command) {
  command.last_sent = MonotonicNow();
  if (command.first_sent == absl::InfinitePast()) {
    command.first_sent = command.last_sent;
  }
  command.error = 0;
  command.owner = this;
  if (Issue(command) >= 0) return absl::OkStatus();
  const absl::Status why = handle_->LastError();
  // The connection is dead, and the command is sent again on another; or
  // libnbd takes no such command.
  RETURN_IF_ERROR(handle_->CheckAlive());
  Finish(command, why);
  return absl::OkStatus();
}

int64_t NbdConnection::Issue(NbdCommand& command) {
  nbd_handle* const nbd = handle_->get();
  nbd_completion_callback completed = {};
  completed.callback = &OnCompleted;
  completed.user_data = &command;
  switch (command.wire()) {
    case NbdCommand::Wire::kRead:
      return nbd_aio_pread(nbd, command.data(), command.length(),
                           command.offset(), completed, 0);
    case NbdCommand::Wire::kWrite:
      return nbd_aio_pwrite(nbd, command.data(), command.length(),
                            command.offset(), completed, 0);
    case NbdCommand::Wire::kZero:
      return nbd_aio_zero(nbd, command.length(), command.offset(), completed,
                          command.no_hole() ? LIBNBD_CMD_FLAG_NO_HOLE : 0);
    case NbdCommand::Wire::kBlockStatus: {
      nbd_extent_callback extents = {};
      extents.callback = &OnExtents;
      extents.user_data = &command;
      return nbd_aio_block_status(nbd, command.length(), command.offset(),
                                  extents, completed, 0);
    }
    case NbdCommand::Wire::kFlush:
      break;
  }
  return nbd_aio_flush(nbd, completed, 0);
}

// Within libnbd, which must not be called here.
int NbdConnection::OnCompleted(void* user_data, int* error) {
  auto* const command = static_cast<NbdCommand*>(user_data);
  command->error = *error;
  static_cast<NbdConnection*>(command->owner)->completed_.push_back(command);
  return 1;  // libnbd forgets it
}

int NbdConnection::OnExtents(void* user_data, const char*, uint64_t offset,
                             uint32_t* entries, size_t count, int*) {
  const auto* const command = static_cast<NbdCommand*>(user_data);
  BackingDevice::Extent& extent = *command->transfer().extent();
  if (count < 2) return 0;
  // Pairs of length and flags. Neighbours that are alike are one; sizes are of
  // what begins at the offset that was asked for.
  const bool is_hole = (entries[1] & LIBNBD_STATE_ZERO) != 0;
  uint64_t end = offset;
  for (size_t i = 0; i + 1 < count; i += 2) {
    if (((entries[i + 1] & LIBNBD_STATE_ZERO) != 0) != is_hole) break;
    end += entries[i];
  }
  const uint64_t begin = command->piece().offset;
  if (end > begin) extent = {.length = end - begin, .is_hole = is_hole};
  return 0;
}

bool NbdConnection::HandleCompleted() {
  if (completed_.empty()) return false;
  last_answer_ = MonotonicNow();
  for (NbdCommand* const command : std::exchange(completed_, {})) {
    HandleCompleted(*command);
  }
  return true;
}

void NbdConnection::HandleCompleted(NbdCommand& command) {
  if (command.error == ENOTCONN) return;  // never answered: Drop() has it
  if (command.error == ESHUTDOWN) {
    is_shutting_down_ = true;
    return;
  }
  if (command.error != 0) {
    Finish(command,
           command.is_flush()
               ? FlushError(shared_.uri.text, command.error)
               : IoError(command.name(), shared_.uri.text,
                         command.piece().offset, command.piece().length,
                         command.error));
    return;
  }
  // It lives.
  back_off_ = shared_.times.retry_first;
  if (command.is_flush() || command.Advance()) {
    Finish(command, absl::OkStatus());
  } else {
    // If that finds the connection dead, so does what comes next.
    Send(command).IgnoreError();
  }
}

void NbdConnection::Finish(NbdCommand& command, const absl::Status& status) {
  const auto it = std::find_if(
      in_flight_.begin(), in_flight_.end(),
      [&](const std::unique_ptr<NbdCommand>& other) {
        return other.get() == &command;
      });
  std::unique_ptr<NbdCommand> finished = std::move(*it);
  in_flight_.erase(it);
  queue_.Finish(port_, std::move(finished), status);
}

absl::Time NbdConnection::NextDeadline() const {
  absl::Time next = absl::InfiniteFuture();
  for (const std::unique_ptr<NbdCommand>& command : in_flight_) {
    const absl::Time sent = command->last_sent;
    next = std::min(
        {next, std::max(sent, last_answer_) + shared_.times.deadline,
         sent + kPatience * shared_.times.deadline});
  }
  return next;
}

void NbdConnection::Drop(const absl::Status& why) {
  // What it had answered before the connection was lost.
  HandleCompleted();
  // After this libnbd touches no buffer.
  handle_.reset();
  completed_.clear();
  is_shutting_down_ = false;
  NbdQueue::Commands commands;
  for (std::unique_ptr<NbdCommand>& command : in_flight_) {
    commands.push_back(std::move(command));
  }
  in_flight_.clear();
  queue_.Disconnected(port_, std::move(commands), why);
}

}  // namespace pcachefs
