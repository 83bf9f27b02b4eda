#include "test/fakes/fake_cache_device.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/base/macros.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

const char* KindName(uint32_t kind) {
  if (kind == FakeCacheDevice::kRead) return "read";
  if (kind == FakeCacheDevice::kWrite) return "write";
  return "persist";
}

}  // namespace

FakeCacheDevice::FakeCacheDevice(const Options& options)
    : options_(options),
      size_(options.first_size == 0 ? options.size : options.first_size),
      media_(options.size, options.atom_size),
      random_(options.seed) {
  if (options_.mapped) mirror_.resize(options_.size);
}

FakeCacheDevice::~FakeCacheDevice() {
  // Every done callback runs exactly once.
  ABSL_HARDENING_ASSERT(pending_.empty());
}

absl::Status FakeCacheDevice::AdmitLocked(uint32_t kind, uint64_t offset,
                                          uint64_t length) {
  const auto place = [&] {
    return absl::StrCat(name_, ": ", KindName(kind), " at offset ", offset,
                        ", length ", length, ": ");
  };
  if (stopped_) return absl::UnavailableError(place() + "the device is off");
  if (offset > size_ || length > size_ - offset) {
    return absl::OutOfRangeError(
        absl::StrCat(place(), "beyond the device's ", size_.load()));
  }
  if (faults_.ShouldFail(kind, offset, length)) {
    return absl::UnavailableError(place() + "injected: input/output error");
  }
  return absl::OkStatus();
}

bool FakeCacheDevice::CountChangeLocked() {
  if (changes_++ == stop_at_) stopped_ = true;
  return stopped_;
}

void FakeCacheDevice::MirrorLocked(uint64_t offset, uint64_t length) {
  if (!options_.mapped) return;
  media_.visible().Read(offset,
                        std::span<std::byte>(mirror_).subspan(offset, length));
}

absl::Status FakeCacheDevice::Read(MediaOffset offset,
                                   std::span<std::byte> out) {
  absl::MutexLock lock(&mutex_);
  if (absl::Status status = AdmitLocked(kRead, offset.value(), out.size());
      !status.ok()) {
    return status;
  }
  media_.visible().Read(offset.value(), out);
  return absl::OkStatus();
}

absl::StatusOr<bool> FakeCacheDevice::TryRead(MediaOffset offset,
                                              std::span<std::byte> out) {
  {
    absl::MutexLock lock(&mutex_);
    if (random_.Percent(options_.try_read_miss_percent)) {
      // "Contents undefined": whoever uses them will be found out.
      std::fill(out.begin(), out.end(), std::byte{0xdb});
      return false;
    }
  }
  if (absl::Status status = Read(offset, out); !status.ok()) return status;
  return true;
}

void FakeCacheDevice::ReadAsync(MediaOffset offset, std::span<std::byte> out,
                                absl::AnyInvocable<void(absl::Status)> done) {
  if (!options_.async_reads) {
    done(Read(offset, out));
    return;
  }
  absl::MutexLock lock(&mutex_);
  pending_.push_back({offset.value(), out, std::move(done)});
}

bool FakeCacheDevice::Step() {
  PendingRead read;
  uint64_t length = 0;
  {
    absl::MutexLock lock(&mutex_);
    if (pending_.empty()) return false;
    const size_t index = random_.Below(pending_.size());
    read = std::move(pending_[index]);
    pending_.erase(pending_.begin() + index);
    length = stopped_ ? read.out.size() : PieceLocked(read.out.size());
  }
  // The bytes are taken at the last moment: whoever let go of the range since
  // the call gets what stands there now.
  absl::Status status =
      Read(MediaOffset(read.offset), read.out.first(length));
  if (!status.ok() || length == read.out.size()) {
    read.done(std::move(status));
    return true;
  }
  absl::MutexLock lock(&mutex_);
  read.offset += length;
  read.out = read.out.subspan(length);
  pending_.push_back(std::move(read));
  return true;
}

uint64_t FakeCacheDevice::PieceLocked(uint64_t length) {
  if (length < 2 || !random_.Percent(options_.short_percent)) return length;
  ++short_transfers_;
  return random_.Between(1, length - 1);
}

uint64_t FakeCacheDevice::RoomLocked(uint64_t offset, uint64_t length) const {
  if (!full_) return length;
  for (uint64_t at = offset; at < offset + length;
       at = RoundDown(at, CowBytes::kPageSize) + CowBytes::kPageSize) {
    if (media_.visible().IsHole(at)) return at - offset;
  }
  return length;
}

absl::Status FakeCacheDevice::Write(MediaOffset offset,
                                    std::span<const std::byte> bytes) {
  absl::Status status;
  bool stop = false;
  {
    absl::MutexLock lock(&mutex_);
    status = AdmitLocked(kWrite, offset.value(), bytes.size());
    if (stopped_ || absl::IsOutOfRange(status)) return status;
    size_t length = bytes.size();
    if (!status.ok()) length = random_.Below(length + 1);
    stop = CountChangeLocked();
    if (stop) length = PieceLocked(length);
    if (const size_t room = RoomLocked(offset.value(), length);
        room < length) {
      length = room;
      was_full_ = true;
      status = absl::UnavailableError(
          absl::StrCat(name_, ": write at offset ", offset.value(),
                       ", length ", bytes.size(), ": no space left on device"));
    }
    media_.Write(offset.value(), bytes.first(length));
    MirrorLocked(offset.value(), length);
    VLOG(2) << name_ << ": write at " << offset << ", +" << bytes.size() << ' '
            << status;
  }
  if (stop) {
    if (on_stop_) on_stop_();
    return absl::UnavailableError("the device went off during a write");
  }
  if (hook_) hook_();
  return status;
}

absl::Status FakeCacheDevice::Persist() {
  uint64_t journal_end = 0;
  bool stop = false;
  {
    absl::MutexLock lock(&mutex_);
    absl::Status status = AdmitLocked(kPersist, 0, 0);
    if (stopped_) return status;
    stop = CountChangeLocked();
    if (!status.ok()) persist_failed_ = true;
    if (persist_failed_ && !stop) {
      return absl::UnavailableError(
          absl::StrCat(name_, ": persist failed, or one before it did"));
    }
    journal_end = media_.journal_end();
  }
  if (stop) {
    if (on_stop_) on_stop_();
    return absl::UnavailableError("the device went off during a persist");
  }
  if (hook_) hook_();
  absl::MutexLock lock(&mutex_);
  media_.PersistUpTo(journal_end);
  return absl::OkStatus();
}

const std::byte* FakeCacheDevice::View(MediaOffset offset, uint64_t length) {
  absl::MutexLock lock(&mutex_);
  if (!options_.mapped) return nullptr;
  ABSL_HARDENING_ASSERT(offset.value() + length <= options_.size);
  return mirror_.data() + offset.value();
}

size_t FakeCacheDevice::pending() const {
  absl::MutexLock lock(&mutex_);
  return pending_.size();
}

void FakeCacheDevice::Stop() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
}

void FakeCacheDevice::StopAt(uint64_t index) {
  absl::MutexLock lock(&mutex_);
  stop_at_ = changes_ + index;
}

bool FakeCacheDevice::stopped() const {
  absl::MutexLock lock(&mutex_);
  return stopped_;
}

void FakeCacheDevice::CompletePending() {
  while (Step()) {
  }
}

void FakeCacheDevice::RestartLocked() {
  ABSL_HARDENING_ASSERT(pending_.empty());
  stopped_ = false;
  persist_failed_ = false;
  was_full_ = false;
  stop_at_ = FaultInjector::kForever;
  faults_ = FaultInjector();
  MirrorLocked(0, options_.size);
}

void FakeCacheDevice::CutPower(Random& random) {
  absl::MutexLock lock(&mutex_);
  media_.PowerCut(random);
  RestartLocked();
}

void FakeCacheDevice::Restart() {
  absl::MutexLock lock(&mutex_);
  RestartLocked();
}

void FakeCacheDevice::Resume() {
  absl::MutexLock lock(&mutex_);
  ABSL_HARDENING_ASSERT(pending_.empty());
  stopped_ = false;
  persist_failed_ = false;
}

std::unique_ptr<FakeCacheDevice> FakeCacheDevice::Fork() const {
  absl::MutexLock lock(&mutex_);
  auto fork = std::make_unique<FakeCacheDevice>(options_);
  absl::MutexLock fork_lock(&fork->mutex_);
  fork->media_ = media_;
  fork->random_ = random_;
  fork->size_ = size_.load();
  fork->has_grown_ = has_grown_.load();
  fork->RestartLocked();
  return fork;
}

void FakeCacheDevice::FailNth(uint32_t kinds, uint64_t index) {
  absl::MutexLock lock(&mutex_);
  faults_.FailNth(kinds, index);
}

void FakeCacheDevice::FailRange(uint32_t kinds, uint64_t offset,
                                uint64_t length, uint64_t times) {
  absl::MutexLock lock(&mutex_);
  faults_.FailRange(kinds, offset, length, times);
}

void FakeCacheDevice::ClearFaults() {
  absl::MutexLock lock(&mutex_);
  faults_.Clear();
  stop_at_ = FaultInjector::kForever;
}

void FakeCacheDevice::set_full(bool full) {
  absl::MutexLock lock(&mutex_);
  full_ = full;
  if (!full) was_full_ = false;
}

bool FakeCacheDevice::fault_fired() const {
  absl::MutexLock lock(&mutex_);
  return faults_.fired() || was_full_;
}

uint64_t FakeCacheDevice::short_transfers() const {
  absl::MutexLock lock(&mutex_);
  return short_transfers_;
}

void FakeCacheDevice::FlipBit(uint64_t offset, int bit) {
  absl::MutexLock lock(&mutex_);
  media_.FlipBit(offset, bit);
  MirrorLocked(offset, 1);
}

uint64_t FakeCacheDevice::changes() const {
  absl::MutexLock lock(&mutex_);
  return changes_;
}

FakeMedia FakeCacheDevice::media() const {
  absl::MutexLock lock(&mutex_);
  return media_;
}

}  // namespace pcachefs
