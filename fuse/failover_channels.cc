#include "fuse/failover_channels.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fuse/current_request.h"
#include "fuse/resident_buffer.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Of the kernel's protocol 7.40, which Debian's headers do not know yet.
constexpr uint64_t kUniqueResend = uint64_t{1} << 63;
constexpr uint32_t kHasResend = 1u << (39 - 32);  // of flags2
constexpr int32_t kNotifyResend = 7;
// And of 7.42.
constexpr uint32_t kOverIoUring = 1u << (41 - 32);  // of flags2

// To have the rings filled; nobody waits for a disk there.
constexpr absl::Duration kFillTime = absl::Seconds(5);
constexpr absl::Duration kHoldTime = absl::Seconds(1);

// As libfuse's: the largest payload and room for headers.
constexpr size_t kBufferSize = kMiB + 4096;
// How long one request may keep others from being handled.
constexpr absl::Duration kTrialTime = absl::Seconds(5);

using InitRequest = struct fuse_init_in;
constexpr size_t kInitRequestSize = sizeof(fuse_in_header) + sizeof(InitRequest);

std::string PlaceOf(int fd) { return absl::StrCat("/dev/fd/", fd); }

absl::StatusOr<int> CloneDescriptor(int fd) {
  const int clone = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  uint32_t original = fd;
  if (clone >= 0 && ioctl(clone, FUSE_DEV_IOC_CLONE, &original) == 0) {
    return clone;
  }
  const int error = errno;
  if (clone >= 0) close(clone);
  return absl::ErrnoToStatus(error, "cloning a descriptor of /dev/fuse");
}

// Has the session answer an INIT, and takes the answer before the kernel gets
// it: for the while the session's descriptor is one end of a pair of sockets.
absl::StatusOr<std::vector<std::byte>> AnswerInit(
    fuse_session* session, int fd, std::vector<std::byte> request) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "socketpair");
  }
  const int kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  const auto close_all = absl::MakeCleanup([&] {
    for (const int opened : {ends[0], ends[1], kept}) close(opened);
  });
  if (kept < 0 || dup3(ends[0], fd, O_CLOEXEC) < 0) {
    return absl::ErrnoToStatus(errno, "dup");
  }
  fuse_buf buffer = {};
  buffer.mem = request.data();
  buffer.size = request.size();
  fuse_session_process_buf(session, &buffer);
  if (dup3(kept, fd, O_CLOEXEC) < 0) return absl::ErrnoToStatus(errno, "dup");
  std::vector<std::byte> reply(SharedNegotiation::kMaxSize);
  const ssize_t length =
      recv(ends[1], reply.data(), reply.size(), MSG_DONTWAIT);
  if (length < static_cast<ssize_t>(sizeof(fuse_out_header))) {
    return absl::InternalError("libfuse did not answer INIT");
  }
  reply.resize(length);
  return reply;
}

// What an INIT asks, without what its answer declined.
void Decline(std::span<const std::byte> reply, std::span<std::byte> request) {
  if (request.size() < kInitRequestSize ||
      reply.size() < sizeof(fuse_out_header) + sizeof(fuse_init_out)) {
    return;
  }
  InitRequest asked;
  fuse_init_out answered;
  std::memcpy(&asked, &request[sizeof(fuse_in_header)], sizeof(asked));
  std::memcpy(&answered, &reply[sizeof(fuse_out_header)], sizeof(answered));
  asked.flags &= answered.flags | FUSE_INIT_EXT;
  asked.flags2 &= answered.flags2;
  std::memcpy(&request[sizeof(fuse_in_header)], &asked, sizeof(asked));
}

bool KernelCanResend(std::span<const std::byte> request) {
  if (request.size() < kInitRequestSize) return false;
  InitRequest asked;
  std::memcpy(&asked, &request[sizeof(fuse_in_header)], sizeof(asked));
  return (asked.flags & FUSE_INIT_EXT) != 0 && (asked.flags2 & kHasResend) != 0;
}

// Has the kernel's agreement to rings, which libfuse knows nothing of.
bool AgreeOnRings(std::span<const std::byte> request,
                  std::span<std::byte> reply) {
  if (request.size() < kInitRequestSize ||
      reply.size() < sizeof(fuse_out_header) + sizeof(fuse_init_out)) {
    return false;
  }
  InitRequest asked;
  fuse_init_out answered;
  std::memcpy(&asked, &request[sizeof(fuse_in_header)], sizeof(asked));
  std::memcpy(&answered, &reply[sizeof(fuse_out_header)], sizeof(answered));
  if ((asked.flags & FUSE_INIT_EXT) == 0 ||
      (asked.flags2 & kOverIoUring) == 0) {
    return false;
  }
  answered.flags |= FUSE_INIT_EXT;
  answered.flags2 |= kOverIoUring;
  std::memcpy(&reply[sizeof(fuse_out_header)], &answered, sizeof(answered));
  return true;
}

RequestRecord RecordOf(std::span<const std::byte> request) {
  fuse_in_header header;
  std::memcpy(&header, request.data(), sizeof(header));
  RequestRecord record = {.unique = header.unique & ~kUniqueResend,
                          .node = header.nodeid,
                          .opcode = header.opcode};
  if ((header.opcode == FUSE_READ || header.opcode == FUSE_WRITE) &&
      request.size() >= sizeof(header) + sizeof(fuse_read_in)) {
    // Both begin so: handle, offset, size.
    fuse_read_in range;
    std::memcpy(&range, &request[sizeof(header)], sizeof(range));
    record.offset = range.offset;
    record.length = range.size;
  }
  return record;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FailoverChannels>> FailoverChannels::Open(
    const std::string& mountpoint, int threads, FailoverOptions& options,
    Connection& connection, SessionMaker make_session) {
  const bool is_successor = !options.descriptors.empty();
  auto channels = absl::WrapUnique(new FailoverChannels(
      threads, *options.state, connection, is_successor));
  channels->lethal_offset_ = options.lethal_offset;
  RETURN_IF_ERROR(is_successor
                      ? channels->TakeOver(options.descriptors, make_session)
                      : channels->MountAll(mountpoint, options, make_session));
  return channels;
}

FailoverChannels::~FailoverChannels() {
  rings_.reset();
  for (const Channel& channel : channels_) {
    fuse_session_destroy(channel.session);  // closes the descriptor
  }
}

absl::Status FailoverChannels::MountAll(const std::string& mountpoint,
                                        FailoverOptions& options,
                                        SessionMaker& make_session) {
  ASSIGN_OR_RETURN(fuse_session* const first, make_session(mountpoint));
  channels_.push_back({first, fuse_session_fd(first)});
  fcntl(channels_[0].fd, F_SETFD, FD_CLOEXEC);
  const bool over_ring = options.ring_depth != 0;
  RETURN_IF_ERROR(NegotiateFirst(channels_[0], over_ring));
  std::vector<int> descriptors = {channels_[0].fd};
  if (over_ring) {
    ASSIGN_OR_RETURN(
        std::unique_ptr<RingMemory> memory,
        RingMemory::Create(get_nprocs_conf(), options.ring_depth));
    RETURN_IF_ERROR(AddRings(std::move(memory)));
    state_.shared().rings.are_used = 1;
    descriptors.push_back(rings_->memory_fd());
    return options.hold(descriptors);
  }
  for (int i = 1; i < threads_; ++i) {
    ASSIGN_OR_RETURN(const int fd, CloneDescriptor(descriptors[0]));
    descriptors.push_back(fd);
    RETURN_IF_ERROR(AddChannel(fd, make_session));
  }
  return options.hold(descriptors);
}

absl::Status FailoverChannels::TakeOver(std::span<const int> descriptors,
                                        SessionMaker& make_session) {
  std::unique_ptr<RingMemory> memory;
  for (const int fd : descriptors) {
    struct stat attributes;
    if (fstat(fd, &attributes) == 0 && S_ISREG(attributes.st_mode)) {
      fcntl(fd, F_SETFD, FD_CLOEXEC);
      ASSIGN_OR_RETURN(memory, RingMemory::Open(fd));
    } else {
      RETURN_IF_ERROR(AddChannel(fd, make_session));
    }
  }
  if (memory == nullptr) return absl::OkStatus();
  if (channels_.empty()) {
    return absl::FailedPreconditionError("failover: rings without a mount");
  }
  return AddRings(std::move(memory));
}

absl::Status FailoverChannels::AddRings(std::unique_ptr<RingMemory> memory) {
  rings_ = RingChannels::Make(std::move(memory), channels_[0].session,
                              channels_[0].fd, connection_);
  return rings_->Open();
}

absl::Status FailoverChannels::AddChannel(int fd, SessionMaker& make_session) {
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  ASSIGN_OR_RETURN(fuse_session* const session, make_session(PlaceOf(fd)));
  channels_.push_back({session, fd});
  return NegotiateAgain(channels_.back());
}

absl::Status FailoverChannels::NegotiateFirst(const Channel& channel,
                                              bool over_ring) {
  std::vector<std::byte> request(kBufferSize);
  const ssize_t length = read(channel.fd, request.data(), request.size());
  if (length < 0) return absl::ErrnoToStatus(errno, "reading INIT");
  request.resize(length);
  if (!KernelCanResend(request)) {
    return absl::FailedPreconditionError(
        "failover: this kernel cannot send requests again, Linux 6.9 can; "
        "serve without --failover");
  }
  ASSIGN_OR_RETURN(const std::vector<std::byte> reply,
                   AnswerInit(channel.session, channel.fd, request));
  std::vector<std::byte> answer = reply;
  if (over_ring && !AgreeOnRings(request, answer)) {
    return absl::FailedPreconditionError(
        "transport io_uring: the kernel does not offer it");
  }
  if (write(channel.fd, answer.data(), answer.size()) < 0) {
    return absl::ErrnoToStatus(errno, "answering INIT");
  }
  Decline(reply, request);
  SharedNegotiation& shared = state_.shared().negotiation;
  if (request.size() > SharedNegotiation::kMaxSize) {
    return absl::InternalError("INIT is too long");
  }
  std::memcpy(shared.request, request.data(), request.size());
  std::memcpy(shared.reply, reply.data(), reply.size());
  shared.request_size = static_cast<uint32_t>(request.size());
  shared.reply_size = static_cast<uint32_t>(reply.size());
  return absl::OkStatus();
}

absl::Status FailoverChannels::NegotiateAgain(const Channel& channel) {
  const SharedNegotiation& shared = state_.shared().negotiation;
  ASSIGN_OR_RETURN(
      const std::vector<std::byte> reply,
      AnswerInit(channel.session, channel.fd,
                 {shared.request, shared.request + shared.request_size}));
  if (reply.size() == shared.reply_size &&
      std::memcmp(reply.data(), shared.reply, reply.size()) == 0) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      "failover: this version would agree with the kernel on other terms than "
      "the one that mounted; it cannot take over, restart instead");
}

absl::Status FailoverChannels::Resend() {
  const fuse_out_header notification = {
      .len = sizeof(notification), .error = kNotifyResend, .unique = 0};
  if (write(channels_[0].fd, &notification, sizeof(notification)) >= 0 ||
      errno == ENODEV) {  // unmounted meanwhile: Run will tell
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, "asking for unanswered requests");
}

absl::Status FailoverChannels::Run() {
  if (is_successor_) RETURN_IF_ERROR(Resend());
  if (rings_ != nullptr) {
    state_.shared().rings.are_held = 0;
    rings_->Start();
  }
  // Over rings hardly anything comes by the descriptor.
  const int count =
      rings_ != nullptr ? 1 : std::max<int>(threads_, channels_.size());
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    ++running_;
    threads.emplace_back(
        [this, i] { ServeThread(channels_[i % channels_.size()]); });
  }
  for (std::thread& thread : threads) thread.join();
  // Whatever the reason: who called may soon have nothing to serve with.
  if (rings_ != nullptr) rings_->Hold(kHoldTime);
  if (error_ != 0) return absl::ErrnoToStatus(error_, "reading requests");
  return absl::OkStatus();
}

void FailoverChannels::End() {
  must_end_ = true;
  while (running_ > 0) {
    {
      absl::MutexLock lock(&threads_mutex_);
      // One that comes before a thread waits is lost: hence again and again.
      for (const pthread_t thread : running_threads_) {
        pthread_kill(thread, SIGUSR1);
      }
    }
    absl::SleepFor(absl::Microseconds(200));
  }
}

void FailoverChannels::FinishHandOver(const std::string& mountpoint) {
  if (rings_ == nullptr) return;
  LOG_IF(WARNING, !rings_->Seal(mountpoint, kFillTime))
      << "rings have room left; a request that comes now may fail";
  state_.shared().rings.are_held = 1;
}

void FailoverChannels::ServeThread(const Channel& channel) {
  const ResidentBuffer memory(kBufferSize);
  {
    absl::MutexLock lock(&threads_mutex_);
    running_threads_.push_back(pthread_self());
  }
  const std::span<std::byte> buffer = memory.bytes();
  while (!must_end_ && (guard_.is_careful() ? ServeOneCarefully(channel, buffer)
                                            : ServeOne(channel, buffer))) {
  }
  must_end_ = true;
  {
    absl::MutexLock lock(&threads_mutex_);
    std::erase(running_threads_, pthread_self());
    for (const pthread_t other : running_threads_) pthread_kill(other, SIGUSR1);
  }
  --running_;
}

bool FailoverChannels::ServeOne(const Channel& channel,
                                std::span<std::byte> buffer) {
  const std::optional<size_t> size = Receive(channel, buffer);
  if (!size) return !must_end_;
  Handle(channel, buffer.first(*size));
  return true;
}

bool FailoverChannels::ServeOneCarefully(const Channel& channel,
                                         std::span<std::byte> buffer) {
  absl::MutexLock lock(&careful_mutex_);
  if (must_end_) return false;
  if (!guard_.is_careful()) return true;
  const std::optional<size_t> size = Receive(channel, buffer);
  if (!size) return !must_end_;
  guard_.BeginTrial(RecordOf(buffer.first(*size)));
  const bool is_resent = Handle(channel, buffer.first(*size));
  connection_.in_flight.WaitUntilNone(kTrialTime);
  guard_.EndTrial();
  if (!is_resent) guard_.EndCare();
  return true;
}

std::optional<size_t> FailoverChannels::Receive(const Channel& channel,
                                                std::span<std::byte> buffer) {
  const ssize_t size = read(channel.fd, buffer.data(), buffer.size());
  if (size >= static_cast<ssize_t>(sizeof(fuse_in_header))) return size;
  if (size < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) {
    return std::nullopt;
  }
  if (size < 0 && errno == ENODEV) {
    is_unmounted_ = true;
  } else {
    error_ = size < 0 ? errno : EIO;
  }
  must_end_ = true;
  return std::nullopt;
}

bool FailoverChannels::Handle(const Channel& channel,
                              std::span<std::byte> request) {
  fuse_in_header header;
  std::memcpy(&header, request.data(), sizeof(header));
  const bool is_resent = (header.unique & kUniqueResend) != 0;
  if (is_resent && guard_.Refuses(RecordOf(request))) {
    const fuse_out_header refusal = {
        .len = sizeof(refusal), .error = -EIO, .unique = header.unique};
    PLOG_IF(WARNING, write(channel.fd, &refusal, sizeof(refusal)) < 0)
        << "refusing a request";
    return true;
  }
  if (lethal_offset_ && header.opcode == FUSE_WRITE &&
      RecordOf(request).offset == *lethal_offset_) {
    _exit(EXIT_FAILURE);
  }
  current_request = {.unique = header.unique & ~kUniqueResend,
                     .is_resent = is_resent};
  // The kernel gives them out before all others, oldest first.
  if (!is_resent && !has_seen_new_.load(std::memory_order_relaxed)) {
    has_seen_new_ = true;
  }
  fuse_buf buffer = {};
  buffer.mem = request.data();
  buffer.size = request.size();
  fuse_session_process_buf(channel.session, &buffer);
  current_request = {};
  if (!is_calm_.load(std::memory_order_relaxed)) NoteCalm();
  return is_resent;
}

void FailoverChannels::NoteCalm() {
  if (!has_seen_new_ || connection_.resent_in_flight.count() > 0) return;
  is_calm_ = true;
  guard_.BecomeCalm();
}

}  // namespace pcachefs
