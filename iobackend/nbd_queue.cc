#include "iobackend/nbd_queue.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "iobackend/monotonic_time.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Requests that wait to be sent, before who may wait has to.
constexpr size_t kMaxWaiting = 256;

// The queue whose answers run on this thread: they must not wait for room, which
// this thread makes.
thread_local const NbdQueue* answering = nullptr;

}  // namespace

NbdQueue::NbdQueue(std::string name, const NbdLimits& limits, int ports,
                   int queue_depth, absl::Duration deadline)
    : name_(std::move(name)),
      limits_(limits),
      queue_depth_(queue_depth),
      deadline_(deadline),
      ports_(ports),
      down_since_(MonotonicNow()) {
  for (Port& port : ports_) {
    port.wake = FileDescriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    PCHECK(port.wake.is_open()) << "eventfd";
  }
}

void NbdQueue::Add(std::unique_ptr<NbdTransfer> transfer, bool may_wait) {
  absl::MutexLock lock(&mutex_);
  if (may_wait && answering != this) {
    mutex_.Await(absl::Condition(this, &NbdQueue::HasRoomLocked));
  }
  ++unanswered_;
  if (transfer->is_finished()) {  // nothing to do
    AnswerIfFinishedLocked(Transfer(std::move(transfer)));
    Wake(ports_[0]);
    return;
  }
  waiting_.push_back(std::move(transfer));
  WakeOneLocked();
}

void NbdQueue::AddFlush(BackingRequest::Done done) {
  absl::MutexLock lock(&mutex_);
  ++unanswered_;
  next_flushes_.push_back(std::move(done));
  if (flushing_.empty()) StartFlushLocked();
  Wake(ports_[0]);
}

void NbdQueue::Answer(BackingRequest::Done done, absl::Status status) {
  absl::MutexLock lock(&mutex_);
  ++unanswered_;
  AnswerLocked(std::move(done), std::move(status));
  Wake(ports_[0]);
}

void NbdQueue::ClearWake(int port) {
  uint64_t ignored;
  static_cast<void>(!read(wake_fd(port), &ignored, sizeof(ignored)));
}

void NbdQueue::Wait(int port, absl::Duration timeout) {
  pollfd wake = {.fd = wake_fd(port), .events = POLLIN, .revents = 0};
  // Ends early when interrupted: callers look at the clock.
  poll(&wake, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout)) + 1);
  ClearWake(port);
}

void NbdQueue::Connected(int port) {
  absl::MutexLock lock(&mutex_);
  ports_[port].is_connected = true;
  ++connected_;
  if (!logged_.empty()) {
    LOG(INFO) << name_ << ": connected again; " << again_.size()
              << " commands are sent again";
    logged_.clear();
  }
}

void NbdQueue::Disconnected(int port_number, Commands in_flight,
                            const absl::Status& why) {
  const absl::Time now = MonotonicNow();
  absl::MutexLock lock(&mutex_);
  Port& port = ports_[port_number];
  port.is_connected = false;
  port.in_flight = 0;
  --connected_;
  if (connected_ == 0) down_since_ = now;
  down_why_ = why;
  if (!is_closing_) LogOutageLocked(why);
  LoseWritesLocked(port);
  for (std::unique_ptr<NbdCommand>& command : in_flight) {
    if (command->is_flush()) continue;
    if (command->first_sent + deadline_ <= now) {
      FinishPieceLocked(*command, NoAnswer(*command));
    } else {
      again_.push_back(std::move(command));
    }
  }
  WakeAllLocked();
}

void NbdQueue::CouldNotConnect(int, const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  if (absl::IsCancelled(why)) return;
  down_why_ = why;
  LogOutageLocked(why);
}

void NbdQueue::LogOutageLocked(const absl::Status& why) {
  // Attempts fail for the same reasons again and again.
  if (!logged_.insert(std::string(why.message())).second) return;
  LOG(WARNING) << "connection lost, trying again: " << why.message();
}

void NbdQueue::LoseWritesLocked(Port& port) {
  const uint64_t covered =
      port.flush == FlushState::kNone ? port.flushed : port.flush_target;
  if (port.acknowledged > covered) lost_writes_ = true;
  const bool was_flushing = port.flush != FlushState::kNone;
  if (was_flushing) FinishPortFlushLocked(port, WritesLost());
  port.acknowledged = 0;
  port.flushed = 0;
  port.flush_target = 0;
}

std::unique_ptr<NbdCommand> NbdQueue::Take(int port_number) {
  absl::MutexLock lock(&mutex_);
  Port& port = ports_[port_number];
  if (port.flush == FlushState::kWanted) {
    if (limits_.can_flush) {
      port.flush = FlushState::kSent;
      ++port.in_flight;
      return std::make_unique<NbdCommand>();
    }
    FinishPortFlushLocked(port, absl::OkStatus());
  }
  if (port.in_flight >= queue_depth_) return nullptr;
  std::unique_ptr<NbdCommand> command;
  if (again_.empty()) {
    command = TakePieceLocked();
  } else {
    command = std::move(again_.front());
    again_.pop_front();
  }
  if (command != nullptr) ++port.in_flight;
  return command;
}

std::unique_ptr<NbdCommand> NbdQueue::TakePieceLocked() {
  for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
    const Transfer transfer = *it;
    const NbdTransfer::Piece piece = *transfer->Next(limits_);
    if (piece.is_edge &&
        !edges_.insert(RoundDown(piece.offset, uint64_t{limits_.min_block}))
             .second) {
      continue;  // until the other one of this block is through
    }
    transfer->Sent(piece);
    if (!transfer->Next(limits_).has_value()) waiting_.erase(it);
    return std::make_unique<NbdCommand>(transfer, piece);
  }
  return nullptr;
}

void NbdQueue::Finish(int port_number, std::unique_ptr<NbdCommand> command,
                      const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  Port& port = ports_[port_number];
  --port.in_flight;
  if (command->is_flush()) {
    FinishPortFlushLocked(port, status);
    return;
  }
  if (status.ok() && command->is_write()) ++port.acknowledged;
  FinishPieceLocked(*command, status);
}

void NbdQueue::FinishPieceLocked(const NbdCommand& command,
                                 const absl::Status& status) {
  const NbdTransfer::Piece& piece = command.piece();
  if (piece.is_edge) {
    edges_.erase(RoundDown(piece.offset, uint64_t{limits_.min_block}));
    if (!waiting_.empty()) WakeAllLocked();
  }
  command.transfer().Finished(status);
  AnswerIfFinishedLocked(command.shared_transfer());
}

void NbdQueue::AnswerIfFinishedLocked(const Transfer& transfer) {
  if (!transfer->Next(limits_).has_value()) {
    // After a failure it may still stand there.
    const auto it = std::find(waiting_.begin(), waiting_.end(), transfer);
    if (it != waiting_.end()) waiting_.erase(it);
  }
  if (!transfer->is_finished()) return;
  AnswerLocked(
      [transfer](absl::Status) { transfer->RunDone(); }, absl::OkStatus());
}

void NbdQueue::AnswerLocked(BackingRequest::Done done, absl::Status status) {
  answers_.push_back({std::move(done), std::move(status)});
}

bool NbdQueue::RunDone() {
  std::deque<Answered> answers;
  {
    absl::MutexLock lock(&mutex_);
    answers.swap(answers_);
  }
  if (answers.empty()) return false;
  const NbdQueue* const outer = std::exchange(answering, this);
  for (Answered& answered : answers) answered.done(answered.status);
  answering = outer;
  absl::MutexLock lock(&mutex_);
  unanswered_ -= answers.size();
  if (IsDoneLocked()) WakeAllLocked();
  return true;
}

void NbdQueue::StartFlushLocked() {
  flushing_.swap(next_flushes_);
  flush_status_ = absl::OkStatus();
  if (std::exchange(lost_writes_, false)) {
    for (BackingRequest::Done& done : std::exchange(flushing_, {})) {
      AnswerLocked(std::move(done), WritesLost());
    }
    return;
  }
  for (Port& port : ports_) {
    if (port.acknowledged <= port.flushed) continue;
    port.flush = FlushState::kWanted;
    port.flush_target = port.acknowledged;
    ++flushes_pending_;
    Wake(port);
  }
  if (flushes_pending_ != 0) return;
  for (BackingRequest::Done& done : std::exchange(flushing_, {})) {
    AnswerLocked(std::move(done), absl::OkStatus());
  }
}

void NbdQueue::FinishPortFlushLocked(Port& port, const absl::Status& status) {
  port.flush = FlushState::kNone;
  if (status.ok()) {
    port.flushed = port.flush_target;
  } else if (flush_status_.ok()) {
    flush_status_ = status;
  }
  if (--flushes_pending_ != 0) return;
  // Who waits has writes that this flush was to cover, too.
  if (!flush_status_.ok()) {
    std::move(next_flushes_.begin(), next_flushes_.end(),
              std::back_inserter(flushing_));
    next_flushes_.clear();
  }
  for (BackingRequest::Done& done : std::exchange(flushing_, {})) {
    AnswerLocked(std::move(done), flush_status_);
  }
  if (!next_flushes_.empty()) StartFlushLocked();
}

absl::Status NbdQueue::WritesLost() const {
  return absl::UnavailableError(absl::StrCat(
      name_,
      ": flush: the connection was lost with writes that no flush had covered; "
      "write them again"));
}

absl::Status NbdQueue::NoAnswer(const NbdCommand& command) const {
  return absl::UnavailableError(absl::StrCat(
      name_, ": ", command.name(), " of ", command.piece().length,
      " bytes at offset ", command.piece().offset, ": not done within ",
      absl::FormatDuration(deadline_), " (", down_why_.message(), ")"));
}

void NbdQueue::Expire() {
  const absl::Time now = MonotonicNow();
  absl::MutexLock lock(&mutex_);
  if (connected_ != 0) return;
  const bool all = is_closing_;
  for (auto& command :
       std::exchange(again_, std::deque<std::unique_ptr<NbdCommand>>())) {
    if (all || command->first_sent + deadline_ <= now) {
      FinishPieceLocked(*command, NoAnswer(*command));
    } else {
      again_.push_back(std::move(command));
    }
  }
  const std::deque<Transfer> waiting = waiting_;
  for (const Transfer& transfer : waiting) {
    const absl::Time since = std::max(transfer->submitted(), down_since_);
    if (!all && since + deadline_ > now) continue;
    const NbdCommand command(transfer, *transfer->Next(limits_));
    transfer->Fail(NoAnswer(command));
    AnswerIfFinishedLocked(transfer);
  }
}

void NbdQueue::Close() {
  absl::MutexLock lock(&mutex_);
  is_closing_ = true;
  WakeAllLocked();
}

bool NbdQueue::is_closing() {
  absl::MutexLock lock(&mutex_);
  return is_closing_;
}

bool NbdQueue::is_done() {
  absl::MutexLock lock(&mutex_);
  return IsDoneLocked();
}

bool NbdQueue::IsDoneLocked() const { return is_closing_ && unanswered_ == 0; }

bool NbdQueue::HasRoomLocked() const {
  return connected_ == 0 || is_closing_ || waiting_.size() < kMaxWaiting;
}

void NbdQueue::WakeOneLocked() {
  const Port* least = nullptr;
  for (const Port& port : ports_) {
    if (port.is_connected && port.in_flight < queue_depth_ &&
        (least == nullptr || port.in_flight < least->in_flight)) {
      least = &port;
    }
  }
  if (least != nullptr) Wake(*least);
}

void NbdQueue::WakeAllLocked() {
  for (const Port& port : ports_) Wake(port);
}

void NbdQueue::Wake(const Port& port) {
  const uint64_t one = 1;
  static_cast<void>(!write(port.wake.get(), &one, sizeof(one)));
}

}  // namespace pcachefs
