#include "core/write_path.h"

#include <algorithm>
#include <utility>

#include "core/aligned_buffer.h"
#include "core/around_path.h"
#include "core/joined_done.h"
#include "core/mutation.h"
#include "core/unaligned_write.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Largest write that becomes one key set, unless a segment is smaller, and
// largest stretch that one zero or discard key covers: bounds how long shard
// locks are held.
constexpr uint64_t kMaxWrite = 8 * kMiB;
constexpr uint64_t kMaxErase = 256 * kMiB;

// Unaligned writes up to this size are one step; of longer ones each edge is.
constexpr uint64_t kMaxUnaligned = 64 * kKiB;

bool IsSectorAligned(ImageRange range) {
  return IsAligned(range.offset.value(), kSectorSize) &&
         IsAligned(range.length, kSectorSize);
}

}  // namespace

void WritePath::Write(ImageRange range, std::span<const std::byte> bytes,
                      CachedImage::Payload payload, Done done) {
  core_.counters().Add(Counter::kWrites);
  core_.counters().Add(Counter::kWriteBytes, range.length);
  const int64_t began = core_.clock().NowNanos();
  if (!IsSectorAligned(range) || range.length > LargestWrite()) {
    WriteParts(range, bytes, payload, AnswerLater(began, std::move(done)));
    return;
  }
  bool admitted = false;
  absl::Status status;
  if (TryAtOnce(range, bytes, admitted, status)) {
    Answer(began, std::move(status), std::move(done));
  } else {
    WriteLater(range, bytes, payload, admitted,
               AnswerLater(began, std::move(done)));
  }
}

void WritePath::Answer(int64_t began, absl::Status status, Done done) {
  core_.counters().AddLatency(Timing::kWrite,
                              core_.clock().NowNanos() - began);
  done(std::move(status));
}

WritePath::Done WritePath::AnswerLater(int64_t began, Done done) {
  return [this, began, done = std::move(done)](absl::Status status) mutable {
    Answer(began, std::move(status), std::move(done));
  };
}

void WritePath::WriteParts(ImageRange range, std::span<const std::byte> bytes,
                           CachedImage::Payload payload, Done done) {
  if (IsSectorAligned(range)) {
    WriteSectors(range, bytes, payload, std::move(done));
    return;
  }
  if (range.length <= kMaxUnaligned) {
    WriteUnaligned(range, bytes, std::move(done));
    return;
  }
  auto join = std::make_shared<JoinedDone>(std::move(done));
  const uint64_t begin = RoundUp(range.offset.value(), kSectorSize);
  const uint64_t end = RoundDown(range.end().value(), kSectorSize);
  const auto write_part = [&](uint64_t from, uint64_t to) {
    if (from == to) return;
    const ImageRange part = {ImageOffset(from), to - from};
    const auto part_bytes =
        bytes.subspan(from - range.offset.value(), part.length);
    if (IsSectorAligned(part)) {
      WriteSectors(part, part_bytes, payload, JoinedDone::Part(join));
    } else {
      WriteUnaligned(part, part_bytes, JoinedDone::Part(join));
    }
  };
  write_part(range.offset.value(), begin);
  write_part(begin, end);
  write_part(end, range.end().value());
}

void WritePath::WriteUnaligned(ImageRange range,
                               std::span<const std::byte> bytes, Done done) {
  std::make_shared<UnalignedWrite>(*this, range, bytes, std::move(done))
      ->Start();
}

uint64_t WritePath::LargestWrite() const {
  // No more than a segment: an attempt must succeed as soon as reclaim has
  // freed one.
  return std::min<uint64_t>(kMaxWrite, core_.table().geometry().segment_size());
}

void WritePath::WriteSectors(ImageRange range,
                             std::span<const std::byte> bytes,
                             CachedImage::Payload payload, Done done) {
  const uint64_t largest = LargestWrite();
  auto join = std::make_shared<JoinedDone>(std::move(done));
  for (uint64_t at = 0; at < range.length; at += largest) {
    const uint64_t length = std::min(largest, range.length - at);
    const ImageRange part = {range.offset + at, length};
    bool admitted = false;
    absl::Status status;
    if (TryAtOnce(part, bytes.subspan(at, length), admitted, status)) {
      JoinedDone::Part(join)(std::move(status));
    } else {
      WriteLater(part, bytes.subspan(at, length), payload, admitted,
                 JoinedDone::Part(join));
    }
  }
}

// A change of whole sectors on its way.
struct WritePath::Request {
  KeyKind kind;
  ImageRange range;
  std::span<const std::byte> bytes;
  AlignedBuffer copy;  // what `bytes` is of, if the caller's do not live on
  absl::Time since;
  bool admitted = false;  // by the throttle
  Done done;
};

bool WritePath::TryAtOnce(ImageRange range, std::span<const std::byte> bytes,
                          bool& admitted, absl::Status& status) {
  admitted = !has_waiting() && core_.throttle().Admit(range.length);
  if (!admitted || !core_.gate().Enter()) return false;
  status = absl::ResourceExhaustedError("");
  if (!GoesAround(core_.settings().mode())) {
    status = TryChange(KeyKind::kWrite, range, bytes, {});
  }
  core_.LeaveGate();
  return !absl::IsResourceExhausted(status);
}

void WritePath::WriteLater(ImageRange range, std::span<const std::byte> bytes,
                           CachedImage::Payload payload, bool admitted,
                           Done done) {
  auto request = std::make_shared<Request>(
      Request{.kind = KeyKind::kWrite,
              .range = range,
              .bytes = bytes,
              .copy = AlignedBuffer(),
              .since = core_.clock().Now(),
              .admitted = admitted,
              .done = std::move(done)});
  if (payload == CachedImage::Payload::kCopyIfWaiting) {
    request->copy = CopyOf(bytes);
    request->bytes = request->copy.span();
  }
  if (has_waiting() || !TryRequest(request)) WaitInLine(std::move(request));
}

void WritePath::Erase(ImageRange range, KeyKind kind, Done done) {
  const bool zero = kind == KeyKind::kZero;
  core_.counters().Add(zero ? Counter::kZeroes : Counter::kDiscards);
  core_.counters().Add(zero ? Counter::kZeroBytes : Counter::kDiscardBytes,
                       range.length);
  auto join = std::make_shared<JoinedDone>(std::move(done));
  const uint64_t begin = RoundUp(range.offset.value(), kSectorSize);
  const uint64_t end = RoundDown(range.end().value(), kSectorSize);
  static constexpr std::byte kZeros[2 * kSectorSize] = {};
  const auto write_zeros = [&](uint64_t from, uint64_t to) {
    if (from >= to) return;
    WriteParts({ImageOffset(from), to - from},
               std::span(kZeros).first(to - from),
               CachedImage::Payload::kBorrowUntilDone, JoinedDone::Part(join));
  };
  if (begin >= end) {
    write_zeros(range.offset.value(), range.end().value());
    return;
  }
  write_zeros(range.offset.value(), begin);
  for (uint64_t at = begin; at < end; at += kMaxErase) {
    EraseAligned({ImageOffset(at), std::min(kMaxErase, end - at)}, kind,
                 JoinedDone::Part(join));
  }
  write_zeros(end, range.end().value());
}

void WritePath::EraseAligned(ImageRange range, KeyKind kind, Done done) {
  auto request = std::make_shared<Request>(Request{.kind = kind,
                                                   .range = range,
                                                   .bytes = {},
                                                   .copy = AlignedBuffer(),
                                                   .since = {},
                                                   .admitted = true,
                                                   .done = std::move(done)});
  if (has_waiting() || !TryRequest(request)) WaitInLine(std::move(request));
}

bool WritePath::TryRequest(const std::shared_ptr<Request>& request) {
  if (!request->admitted) {
    request->admitted =
        core_.throttle().Admit(request->range.length, request->since);
    if (!request->admitted) return false;
  }
  if (!core_.gate().Enter()) return false;
  if (GoesAround(core_.settings().mode())) {
    const bool started = core_.around_path().Start(
        {.kind = request->kind,
         .range = request->range,
         .bytes = request->bytes},
        {}, [this, request](absl::Status status) {
          core_.LeaveGate();
          // It stood behind another change, and then the log had no room.
          if (absl::IsCancelled(status)) return WaitInLine(request);
          request->done(std::move(status));
        });
    if (!started) core_.LeaveGate();
    return started;
  }
  absl::Status status =
      TryChange(request->kind, request->range, request->bytes, {});
  core_.LeaveGate();
  if (absl::IsResourceExhausted(status)) return false;
  request->done(std::move(status));
  return true;
}

void WritePath::WaitInLine(std::shared_ptr<Request> request) {
  core_.counters().Add(Counter::kWriteWaits);
  TryOrWait([this, request = std::move(request)](const absl::Status& failed) {
    if (failed.ok()) return TryRequest(request);
    request->done(failed);
    return true;
  });
}

absl::Status WritePath::TryChange(
    KeyKind kind, ImageRange range, std::span<const std::byte> bytes,
    std::span<const std::shared_ptr<Fill>> placeholders) {
  PendingKeys keys;
  if (kind == KeyKind::kWrite) {
    RETURN_IF_ERROR(WritePayload(core_, kind, range, bytes, keys));
  } else {
    keys.push_back({.key = {.kind = kind, .range = range}});
  }
  absl::Status status = PublishKeys(core_, range, keys, placeholders);
  if (!status.ok() && HasPayload(kind)) AbandonPayload(core_, keys);
  if (Planted(Mutation::kWriteWithoutLogSpace) &&
      absl::IsResourceExhausted(status)) {
    return absl::OkStatus();
  }
  return status;
}

void WritePath::TryOrWait(Attempt attempt) {
  {
    absl::MutexLock lock(&mutex_);
    waiting_.push_back(std::move(attempt));
    ++waiting_count_;
  }
  // Even if space was freed between the failed attempt and the line above: the
  // kicked step tries everyone who waits.
  core_.Kick();
}

bool WritePath::RunWaiting() {
  bool served = false;
  absl::MutexLock lock(&mutex_);
  if (running_) return false;
  running_ = true;
  while (!waiting_.empty()) {
    Attempt attempt = std::move(waiting_.front());
    waiting_.pop_front();
    mutex_.Unlock();
    const bool finished = attempt(absl::OkStatus());
    mutex_.Lock();
    if (!finished) {
      waiting_.push_front(std::move(attempt));
      break;
    }
    --waiting_count_;
    ++served_;
    served = true;
  }
  running_ = false;
  return served;
}

void WritePath::RefuseWaiting(const absl::Status& status) {
  std::deque<Attempt> waiting;
  {
    absl::MutexLock lock(&mutex_);
    if (running_) return;
    running_ = true;
    waiting.swap(waiting_);
  }
  for (Attempt& attempt : waiting) {
    if (attempt(absl::OkStatus())) {
      ++served_;
    } else {
      attempt(status);
    }
    --waiting_count_;
  }
  absl::MutexLock lock(&mutex_);
  running_ = false;
}

void WritePath::FailWaiting(const absl::Status& status) {
  std::deque<Attempt> failed;
  {
    absl::MutexLock lock(&mutex_);
    failed.swap(waiting_);
    waiting_count_ -= failed.size();
  }
  for (Attempt& attempt : failed) attempt(status);
}

}  // namespace pcachefs
