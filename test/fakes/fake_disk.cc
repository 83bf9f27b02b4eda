#include "test/fakes/fake_disk.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/base/macros.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "meta/units.h"
#include "test/fakes/fake_backing_device.h"

namespace pcachefs {
namespace {

using Operation = BackingRequest::Operation;

bool IsWrite(Operation operation) {
  return operation == Operation::kWrite || operation == Operation::kZero ||
         operation == Operation::kDiscard;
}

uint32_t KindOf(Operation operation) {
  if (operation == Operation::kRead) return FakeDisk::kRead;
  if (operation == Operation::kFlush) return FakeDisk::kFlush;
  return FakeDisk::kWrite;
}

std::string Describe(const BackingRequest& request) {
  static constexpr const char* kNames[] = {"read", "write", "zero", "discard",
                                           "flush"};
  return absl::StrCat(
      "simulated-disk: ", kNames[static_cast<int>(request.operation)],
      " at offset ", request.offset, ", length ", request.length, ": ");
}

std::vector<std::byte> Gather(const BackingRequest& request) {
  std::vector<std::byte> bytes;
  bytes.reserve(request.length);
  for (std::span<const std::byte> buffer : request.buffers) {
    bytes.insert(bytes.end(), buffer.begin(), buffer.end());
  }
  return bytes;
}

// Into the request's buffers, from `skip` on.
void Scatter(std::span<const std::byte> bytes, size_t skip,
             const BackingRequest& request) {
  for (std::span<std::byte> buffer : request.buffers) {
    const size_t skipped = std::min(skip, buffer.size());
    skip -= skipped;
    buffer = buffer.subspan(skipped);
    const size_t length = std::min(buffer.size(), bytes.size());
    std::copy_n(bytes.begin(), length, buffer.begin());
    bytes = bytes.subspan(length);
  }
}

}  // namespace

FakeDisk::FakeDisk(const Options& options)
    : options_(options),
      media_(options.size, kSectorSize),
      random_(options.seed),
      size_(options.first_size == 0 ? options.size : options.first_size) {
  ABSL_HARDENING_ASSERT(options.size % kSectorSize == 0);
}

FakeDisk::~FakeDisk() { ABSL_HARDENING_ASSERT(pending_.empty()); }

std::unique_ptr<BackingDevice> FakeDisk::Open() {
  return std::make_unique<FakeBackingDevice>(
      *this,
      FakeBackingDevice::Options{options_.block_size, options_.is_read_only,
                                 options_.identity});
}

void FakeDisk::CheckLocked(const BackingRequest& request) {
  uint64_t buffered = 0;
  for (const auto& buffer : request.buffers) buffered += buffer.size();
  if (!request.done) mistakes_.push_back(Describe(request) + "no callback");
  if (request.operation == Operation::kFlush) return;
  const bool moves_bytes = request.operation == Operation::kRead ||
                           request.operation == Operation::kWrite;
  if (moves_bytes && buffered != request.length) {
    mistakes_.push_back(
        absl::StrCat(Describe(request), "buffers of ", buffered));
  }
  if (request.length == 0 || request.offset % kSectorSize != 0 ||
      request.length % kSectorSize != 0) {
    mistakes_.push_back(Describe(request) + "not whole sectors");
  }
  if (!IsWrite(request.operation)) return;
  if (options_.is_read_only) {
    mistakes_.push_back(Describe(request) + "the device is read-only");
  }
  for (const Pending& other : pending_) {
    if (IsWrite(other.request.operation) &&
        request.offset < other.request.offset + other.request.length &&
        other.request.offset < request.offset + request.length) {
      mistakes_.push_back(absl::StrCat(Describe(request), "overlaps ",
                                       Describe(other.request), "in flight"));
    }
  }
}

FakeDisk::Pending FakeDisk::AdmitLocked(BackingRequest request) {
  CheckLocked(request);
  Pending pending;
  pending.journal_end = media_.journal_end();
  if (request.operation == Operation::kWrite) pending.sent = Gather(request);
  if (request.operation == Operation::kRead &&
      request.offset + request.length <= size_) {
    pending.early.resize(request.length);
    media_.visible().Read(request.offset, pending.early);
  }
  pending.request = std::move(request);
  return pending;
}

void FakeDisk::Submit(std::vector<BackingRequest> requests,
                      Submission submission) {
  std::vector<Pending> inline_requests;
  {
    absl::MutexLock lock(&mutex_);
    for (BackingRequest& request : requests) {
      Pending pending = AdmitLocked(std::move(request));
      const bool at_once = options_.synchronous && !hanging_ &&
                           submission == Submission::kDirect;
      (at_once ? inline_requests : pending_).push_back(std::move(pending));
    }
  }
  for (Pending& pending : inline_requests) {
    while (!Transfer(pending)) {
    }
  }
}

bool FakeDisk::Step() {
  Pending pending;
  {
    absl::MutexLock lock(&mutex_);
    if (pending_.empty() || (hanging_ && !stopped_)) return false;
    const size_t index = random_.Below(pending_.size());
    pending = std::move(pending_[index]);
    pending_.erase(pending_.begin() + index);
  }
  if (!Transfer(pending)) {
    absl::MutexLock lock(&mutex_);
    pending_.push_back(std::move(pending));
  }
  return true;
}

void FakeDisk::PlanLocked(Pending& pending) {
  const BackingRequest& request = pending.request;
  pending.end = request.length;
  const uint64_t sectors = pending.length() / kSectorSize;
  if (stopped_ || request.operation == Operation::kFlush || sectors < 2 ||
      !random_.Percent(options_.short_percent)) {
    return;
  }
  pending.end = pending.done + random_.Between(1, sectors - 1) * kSectorSize;
  ++short_transfers_;
}

bool FakeDisk::Transfer(Pending& pending) {
  {
    absl::MutexLock lock(&mutex_);
    PlanLocked(pending);
  }
  absl::Status status = Execute(pending);
  VLOG(2) << Describe(pending.request) << "up to " << pending.end << ' '
          << status;
  pending.done = pending.end;
  if (status.ok() && pending.done < pending.request.length) return false;
  pending.request.done(std::move(status));
  return true;
}

absl::Status FakeDisk::Execute(Pending& pending) {
  const BackingRequest& request = pending.request;
  bool stop = false;
  {
    absl::MutexLock lock(&mutex_);
    if (absl::Status status = StartLocked(pending); !status.ok()) {
      if (IsWrite(request.operation) && !stopped_ &&
          absl::IsUnavailable(status)) {
        ApplyPartLocked(pending);
      }
      return status;
    }
    if (request.operation == Operation::kRead) {
      ReadLocked(pending);
      return absl::OkStatus();
    }
    if (request.operation == Operation::kWrite &&
        Gather(request) != pending.sent) {
      mistakes_.push_back(Describe(request) + "buffer changed while borrowed");
    }
    stop = changes_++ == stop_at_;
    if (stop) StopLocked();
    if (IsWrite(request.operation)) {
      stop ? ApplyPartLocked(pending) : ApplyLocked(pending);
    }
  }
  if (stop) {
    if (on_stop_) on_stop_();
    return absl::UnavailableError(Describe(request) + "power went off");
  }
  if (hook_) hook_();
  if (request.operation == Operation::kFlush) {
    absl::MutexLock lock(&mutex_);
    media_.PersistUpTo(pending.journal_end);
  }
  return absl::OkStatus();
}

absl::Status FakeDisk::StartLocked(const Pending& pending) {
  const BackingRequest& request = pending.request;
  if (stopped_) {
    return absl::UnavailableError(Describe(request) + "the device is off");
  }
  if (request.offset > size_ || request.length > size_ - request.offset) {
    return absl::OutOfRangeError(
        absl::StrCat(Describe(request), "beyond ", size_));
  }
  if (faults_.ShouldFail(KindOf(request.operation), pending.offset(),
                         pending.length())) {
    return absl::UnavailableError(Describe(request) +
                                  "injected: input/output error");
  }
  if (full_ && IsFullLocked(pending)) {
    return absl::ResourceExhaustedError(Describe(request) +
                                        "no space left on device");
  }
  return absl::OkStatus();
}

bool FakeDisk::IsFullLocked(const Pending& pending) const {
  if (pending.request.operation != Operation::kWrite) return false;
  const uint64_t end = pending.offset() + pending.length();
  for (uint64_t at = pending.offset(); at < end;
       at = RoundDown(at, CowBytes::kPageSize) + CowBytes::kPageSize) {
    if (media_.visible().IsHole(at)) return true;
  }
  return false;
}

void FakeDisk::ReadLocked(Pending& pending) {
  std::vector<std::byte> late(pending.length());
  media_.visible().Read(pending.offset(), late);
  const auto early = std::span(pending.early).subspan(pending.done);
  if (std::memcmp(late.data(), early.data(), late.size()) != 0) {
    for (size_t at = 0; at < late.size(); at += kSectorSize) {
      if (random_.Percent(50)) continue;
      std::copy_n(early.begin() + at, kSectorSize, late.begin() + at);
    }
  }
  Scatter(late, pending.done, pending.request);
}

void FakeDisk::ApplyLocked(const Pending& pending) {
  if (pending.request.operation == Operation::kWrite) {
    media_.Write(pending.offset(), std::span(pending.sent).subspan(
                                       pending.done, pending.length()));
  } else {
    media_.Zero(pending.offset(), pending.length());
  }
}

void FakeDisk::ApplyPartLocked(const Pending& pending) {
  const BackingRequest& request = pending.request;
  const uint64_t percent = 50 * random_.Below(3);  // none, half, all
  for (uint64_t at = 0; at < request.length; at += kSectorSize) {
    if (!random_.Percent(percent)) continue;
    if (request.operation == Operation::kWrite) {
      media_.Write(request.offset + at,
                   std::span(pending.sent).subspan(at, kSectorSize));
    } else {
      media_.Zero(request.offset + at, kSectorSize);
    }
  }
}

size_t FakeDisk::pending() const {
  absl::MutexLock lock(&mutex_);
  return pending_.size();
}

void FakeDisk::StopLocked() {
  if (stopped_) return;
  stopped_ = true;
  CopyWritesLocked(pending_, orphans_);
}

void FakeDisk::CopyWritesLocked(const std::vector<Pending>& from,
                                std::vector<Pending>& to) const {
  for (const Pending& pending : from) {
    if (!IsWrite(pending.request.operation)) continue;
    Pending& copy = to.emplace_back();
    copy.request.operation = pending.request.operation;
    copy.request.offset = pending.request.offset;
    copy.request.length = pending.request.length;
    copy.sent = pending.sent;
  }
}

void FakeDisk::Stop() {
  absl::MutexLock lock(&mutex_);
  StopLocked();
}

void FakeDisk::StopAt(uint64_t index) {
  absl::MutexLock lock(&mutex_);
  stop_at_ = changes_ + index;
}

bool FakeDisk::stopped() const {
  absl::MutexLock lock(&mutex_);
  return stopped_;
}

void FakeDisk::CompletePending() {
  {
    absl::MutexLock lock(&mutex_);
    ABSL_HARDENING_ASSERT(stopped_);
  }
  while (Step()) {
  }
}

void FakeDisk::RestartLocked() {
  ABSL_HARDENING_ASSERT(pending_.empty());
  for (const Pending& orphan : orphans_) ApplyPartLocked(orphan);
  orphans_.clear();
  stopped_ = false;
  hanging_ = false;
  full_ = false;
  stop_at_ = FaultInjector::kForever;
  faults_ = FaultInjector();
}

void FakeDisk::CutPower(Random& random) {
  absl::MutexLock lock(&mutex_);
  RestartLocked();
  media_.PowerCut(random);
}

void FakeDisk::Restart() {
  absl::MutexLock lock(&mutex_);
  RestartLocked();
}

void FakeDisk::Resume() {
  absl::MutexLock lock(&mutex_);
  ABSL_HARDENING_ASSERT(pending_.empty());
  stopped_ = false;
  orphans_.clear();
}

std::unique_ptr<FakeDisk> FakeDisk::Fork() const {
  absl::MutexLock lock(&mutex_);
  auto fork = std::make_unique<FakeDisk>(options_);
  absl::MutexLock fork_lock(&fork->mutex_);
  fork->media_ = media_;
  fork->random_ = random_;
  fork->size_ = size_;
  CopyWritesLocked(orphans_, fork->orphans_);
  // Once stopped, orphans_ has what was in flight then, and the rest is void.
  if (!stopped_) CopyWritesLocked(pending_, fork->orphans_);
  return fork;
}

void FakeDisk::FailNth(uint32_t kinds, uint64_t index) {
  absl::MutexLock lock(&mutex_);
  faults_.FailNth(kinds, index);
}

void FakeDisk::FailRange(uint32_t kinds, uint64_t offset, uint64_t length,
                         uint64_t times) {
  absl::MutexLock lock(&mutex_);
  faults_.FailRange(kinds, offset, length, times);
}

void FakeDisk::ClearFaults() {
  absl::MutexLock lock(&mutex_);
  faults_.Clear();
  stop_at_ = FaultInjector::kForever;
}

bool FakeDisk::fault_fired() const {
  absl::MutexLock lock(&mutex_);
  return faults_.fired();
}

void FakeDisk::set_hanging(bool hanging) {
  absl::MutexLock lock(&mutex_);
  hanging_ = hanging;
}

void FakeDisk::set_full(bool full) {
  absl::MutexLock lock(&mutex_);
  full_ = full;
}

void FakeDisk::Fill(uint64_t offset, std::span<const std::byte> bytes) {
  absl::MutexLock lock(&mutex_);
  media_.Write(offset, bytes);
  media_.Persist();
}

uint64_t FakeDisk::size() const {
  absl::MutexLock lock(&mutex_);
  return size_;
}

void FakeDisk::Grow() {
  absl::MutexLock lock(&mutex_);
  size_ = options_.size;
}

void FakeDisk::Sync() {
  absl::MutexLock lock(&mutex_);
  media_.Persist();
}

uint64_t FakeDisk::short_transfers() const {
  absl::MutexLock lock(&mutex_);
  return short_transfers_;
}

uint64_t FakeDisk::changes() const {
  absl::MutexLock lock(&mutex_);
  return changes_;
}

FakeMedia FakeDisk::media() const {
  absl::MutexLock lock(&mutex_);
  return media_;
}

std::vector<std::string> FakeDisk::mistakes() const {
  absl::MutexLock lock(&mutex_);
  return mistakes_;
}

}  // namespace pcachefs
