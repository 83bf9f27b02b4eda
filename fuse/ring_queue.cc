#include "fuse/ring_queue.h"

#include <glog/logging.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fuse/current_request.h"

namespace pcachefs {
namespace {

// Of the kernel's protocol 7.42, which Debian's headers do not know yet.
constexpr uint32_t kRegister = 1;
constexpr uint32_t kCommitAndFetch = 2;
struct RingCommand {
  uint64_t flags;
  uint64_t commit_id;
  uint16_t queue;
  uint8_t padding[6];
};

using EntryState = RingMemory::EntryState;

constexpr uint64_t kWake = ~uint64_t{0};

// The queue whose thread this is.
thread_local const RingQueue* own_queue = nullptr;

}  // namespace

RingQueue::RingQueue(int number, RingMemory& memory, fuse_session* session,
                     int fd, Connection& connection)
    : number_(number),
      memory_(memory),
      session_(session),
      fd_(fd),
      connection_(connection),
      wake_fd_(eventfd(0, EFD_CLOEXEC)),
      places_(2 * memory.depth()),
      commit_ids_(memory.depth()),
      entries_(memory.depth()) {
  for (int i = 0; i < memory.depth(); ++i) {
    entries_[i] = {.queue = this, .number = i};
  }
}

RingQueue::~RingQueue() {
  must_end_ = true;
  if (thread_.joinable()) {
    CHECK_EQ(eventfd_write(wake_fd_, 1), 0);
    thread_.join();
  }
  if (has_ring_) io_uring_queue_exit(&ring_);
  if (wake_fd_ >= 0) close(wake_fd_);
}

absl::Status RingQueue::Open() {
  if (wake_fd_ < 0) return absl::ErrnoToStatus(errno, "eventfd");
  const unsigned size = 2 * memory_.depth() + 2;
  io_uring_params parameters = {};
  parameters.flags = IORING_SETUP_SQE128;
  int result = io_uring_queue_init_params(size, &ring_, &parameters);
  has_ring_ = result == 0;
  if (has_ring_) result = io_uring_register_files(&ring_, &fd_, 1);
  if (result != 0) return absl::ErrnoToStatus(-result, "making a ring");
  return absl::OkStatus();
}

void RingQueue::Start() {
  thread_ = std::thread([this] { Run(); });
}

void RingQueue::Run() {
  own_queue = this;
  pthread_setname_np(pthread_self(), "ring");
  cpu_set_t processors;
  CPU_ZERO(&processors);
  CPU_SET(number_, &processors);
  // Its callers are there; elsewhere it is slower.
  sched_setaffinity(0, sizeof(processors), &processors);
  ListenForWake();
  std::vector<int> taken;
  for (int entry = 0; entry < memory_.depth(); ++entry) {
    commit_ids_[entry] = memory_.header(number_, entry).commit_id;
    switch (memory_.state(number_, entry).phase) {
      case EntryState::kInHand:
        taken.push_back(entry);
        break;
      case EntryState::kAnswered:
        Commit(entry);  // ENOENT tells that it was
        break;
      default:
        Register(entry);
    }
  }
  io_uring_submit(&ring_);
  for (const int entry : taken) TakeUp(entry);
  while (!must_end_) {
    const int result = io_uring_submit_and_wait(&ring_, 1);
    if (result < 0 && result != -EINTR) {
      // The kernel is short of memory for a moment; to end here would be the
      // end of the mount.
      LOG_EVERY_N(WARNING, 1000)
          << "queue " << number_ << ": io_uring_enter: " << strerror(-result);
      absl::SleepFor(absl::Milliseconds(1));
    }
    HandleCompletions();
    CommitAnswered();
  }
  // Whoever asked for the end has waited for the answers, not for this thread.
  CommitAnswered();
  io_uring_submit(&ring_);
}

void RingQueue::HandleCompletions() {
  io_uring_cqe* completion = nullptr;
  while (io_uring_peek_cqe(&ring_, &completion) == 0) {
    const uint64_t data = completion->user_data;
    const int result = completion->res;
    io_uring_cqe_seen(&ring_, completion);
    if (data == kWake) {
      ListenForWake();
      continue;
    }
    const int entry = static_cast<int>(data);
    if (result == 0) {
      EntryState& state = memory_.state(number_, entry);
      state.is_begun = 0;
      state.phase = EntryState::kInHand;
      TakeUp(entry);
    } else if (result == -EAGAIN || result == -ENOENT) {
      // Too early, or a predecessor's answer that has arrived.
      Register(entry);
    } else if (result != -ENOTCONN && result != -ECONNABORTED) {  // unmounted
      LOG(ERROR) << "an entry of queue " << number_ << " is lost: "
                 << strerror(-result);
    }
  }
}

void RingQueue::TakeUp(int entry) {
  is_dispatching_ = true;  // before the look, or Hold would not wait for it
  if (!is_held_) Dispatch(entry);
  is_dispatching_ = false;
}

void RingQueue::Dispatch(int entry) {
  connection_.has_seen_ring.store(true, std::memory_order_relaxed);
  const RingHeader& header = memory_.header(number_, entry);
  commit_ids_[entry] = header.commit_id;
  fuse_in_header in;
  std::memcpy(&in, header.in_out, sizeof(in));
  const bool was_begun =
      memory_.state(number_, entry).is_begun.exchange(1) != 0;
  current_request = {.unique = in.unique,
                     .is_resent = was_begun,
                     .ring_entry = &entries_[entry]};
  // As it would have been read: both headers directly before the payload.
  const size_t total = in.len;
  CHECK_LE(header.payload_size, RingMemory::kPayloadSize);
  const size_t operation_size = total - sizeof(in) - header.payload_size;
  CHECK_LE(operation_size, sizeof(header.operation));
  std::byte* const begin =
      memory_.payload(number_, entry) - operation_size - sizeof(in);
  std::memcpy(begin + sizeof(in), header.operation, operation_size);
  std::memcpy(begin, &in, sizeof(in));
  fuse_buf buffer = {};
  buffer.mem = begin;
  buffer.size = total;
  fuse_session_process_buf(session_, &buffer);
  // libfuse has answered where nobody listens.
  const bool is_taken = std::exchange(current_request, {}).is_taken;
  if (!is_taken) Answer(entry, ENOSYS, {});
}

bool RingQueue::Answer(int entry, int error, std::span<const iovec> parts) {
  ++answering_;
  if (is_sealed_) {
    --answering_;
    return false;
  }
  RingHeader& header = memory_.header(number_, entry);
  size_t length = 0;
  for (const iovec& part : parts) {
    CHECK_LE(length + part.iov_len, RingMemory::kPayloadSize);
    std::memcpy(memory_.payload(number_, entry) + length, part.iov_base,
                part.iov_len);
    length += part.iov_len;
  }
  const fuse_out_header out = {
      .len = static_cast<uint32_t>(sizeof(out) + length),
      .error = -error,
      .unique = commit_ids_[entry]};
  std::memcpy(header.in_out, &out, sizeof(out));
  header.payload_size = static_cast<uint32_t>(length);
  memory_.state(number_, entry).phase = EntryState::kAnswered;
  if (own_queue == this) {
    Commit(entry);
  } else {
    bool is_first;
    {
      absl::MutexLock lock(&mutex_);
      is_first = answered_.empty();
      answered_.push_back(entry);
    }
    if (is_first) CHECK_EQ(eventfd_write(wake_fd_, 1), 0);
  }
  --answering_;
  return true;
}

bool RingQueue::IsFull() const {
  for (int entry = 0; entry < memory_.depth(); ++entry) {
    if (memory_.state(number_, entry).phase != EntryState::kInHand) {
      return false;
    }
  }
  return true;
}

void RingQueue::Seal() {
  is_sealed_ = true;
  while (answering_ > 0) absl::SleepFor(absl::Microseconds(100));
}

io_uring_sqe* RingQueue::Prepare(int entry, uint32_t command,
                                 uint64_t commit_id) {
  io_uring_sqe* const submission = io_uring_get_sqe(&ring_);
  CHECK(submission != nullptr);  // there are more than entries
  std::memset(submission, 0, 2 * sizeof(*submission));
  submission->opcode = IORING_OP_URING_CMD;
  submission->flags = IOSQE_FIXED_FILE;
  submission->cmd_op = command;
  submission->user_data = entry;
  const RingCommand details = {.flags = 0,
                               .commit_id = commit_id,
                               .queue = static_cast<uint16_t>(number_),
                               .padding = {}};
  std::memcpy(submission->cmd, &details, sizeof(details));
  return submission;
}

void RingQueue::Register(int entry) {
  io_uring_sqe* const submission = Prepare(entry, kRegister, 0);
  iovec* const places = &places_[2 * entry];
  places[0] = {&memory_.header(number_, entry), RingMemory::kHeaderSize};
  places[1] = {memory_.payload(number_, entry), RingMemory::kPayloadSize};
  submission->addr = reinterpret_cast<uintptr_t>(places);
  submission->len = 2;
}

void RingQueue::Commit(int entry) {
  Prepare(entry, kCommitAndFetch, commit_ids_[entry]);
}

void RingQueue::CommitAnswered() {
  std::vector<int> answered;
  {
    absl::MutexLock lock(&mutex_);
    answered.swap(answered_);
  }
  for (const int entry : answered) Commit(entry);
}

void RingQueue::ListenForWake() {
  io_uring_sqe* const submission = io_uring_get_sqe(&ring_);
  CHECK(submission != nullptr);
  std::memset(submission, 0, 2 * sizeof(*submission));
  io_uring_prep_read(submission, wake_fd_, &wake_count_, sizeof(wake_count_),
                     0);
  submission->user_data = kWake;
}

}  // namespace pcachefs
