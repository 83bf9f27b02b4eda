#include "core/write_path.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/aligned_buffer.h"
#include "core/around_path.h"
#include "core/joined_done.h"
#include "core/mutation.h"
#include "core/read_path.h"
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

ImageRange WidenToSectors(ImageRange range) {
  const ImageOffset begin(RoundDown(range.offset.value(), kSectorSize));
  return {begin, RoundUp(range.end().value(), kSectorSize) - begin.value()};
}

AlignedBuffer Copy(std::span<const std::byte> bytes) {
  AlignedBuffer copy(bytes.size());
  std::memcpy(copy.data(), bytes.data(), bytes.size());
  return copy;
}

}  // namespace

// A write whose edges are not whole sectors: reads the edge sectors, puts the
// bytes in, writes whole sectors, and starts again if an edge was overwritten
// in between.
class WritePath::Unaligned : public std::enable_shared_from_this<Unaligned> {
 public:
  Unaligned(WritePath& path, ImageRange range,
            std::span<const std::byte> bytes, Done done)
      : path_(path),
        core_(path.core_),
        range_(range),
        whole_(WidenToSectors(range)),
        bytes_(Copy(bytes)),
        buffer_(whole_.length),
        since_(core_.clock().Now()),
        done_(std::move(done)) {}

  void Start() {
    for (const ImageRange edge : Edges()) Watch(edge);
    auto join = std::make_shared<JoinedDone>(
        [self = shared_from_this()](absl::Status status) {
          self->OnEdgesRead(std::move(status));
        });
    for (const ImageRange edge : Edges()) {
      core_.read_path().Read(
          edge,
          buffer_.span().subspan(edge.offset - whole_.offset, edge.length),
          CachedImage::Buffer::kUntilAnswered, JoinedDone::Part(join));
    }
  }

 private:
  absl::InlinedVector<ImageRange, 2> Edges() const {
    const ImageRange first = {whole_.offset, kSectorSize};
    const ImageRange last = {whole_.end() - kSectorSize, kSectorSize};
    absl::InlinedVector<ImageRange, 2> edges;
    if (first.offset != range_.offset || first == last) edges.push_back(first);
    if (last.end() != range_.end() && first != last) edges.push_back(last);
    return edges;
  }

  void Watch(ImageRange edge) {
    auto placeholder = std::make_shared<Fill>();
    placeholder->range = edge;
    placeholder->arrived = true;
    ForEachSlice(edge, [&](const ShardSlice& slice) {
      Shard& shard = core_.shards()[slice.shard];
      absl::MutexLock lock(&shard.mutex);
      shard.fills.push_back(placeholder);
    });
    placeholders_.push_back(std::move(placeholder));
  }

  void Unwatch() {
    for (const auto& placeholder : placeholders_) {
      ForEachSlice(placeholder->range, [&](const ShardSlice& slice) {
        Shard& shard = core_.shards()[slice.shard];
        absl::MutexLock lock(&shard.mutex);
        shard.ForgetFill(placeholder.get());
      });
    }
    placeholders_.clear();
  }

  void OnEdgesRead(absl::Status status) {
    if (!status.ok()) return Finish(std::move(status));
    if (!admitted_) {
      admitted_ = core_.throttle().Admit(whole_.length, since_);
      if (!admitted_) return Finish(absl::CancelledError("throttled"));
    }
    std::memcpy(buffer_.data() + (range_.offset - whole_.offset),
                bytes_.data(), bytes_.size());
    if (!core_.gate().Enter()) {
      return Finish(absl::CancelledError("the mode changes"));
    }
    if (GoesAround(core_.settings().mode())) {
      const bool started = core_.around_path().Start(
          {.kind = KeyKind::kWrite, .range = whole_, .bytes = buffer_.span()},
          placeholders_, [self = shared_from_this()](absl::Status written) {
            self->core_.LeaveGate();
            self->Finish(std::move(written));
          });
      if (started) return;
      status = absl::CancelledError("the log has no room");
    } else {
      status = path_.TryChange(KeyKind::kWrite, whole_, buffer_.span(),
                               placeholders_);
      if (absl::IsResourceExhausted(status)) {
        status = absl::CancelledError("the cache has no room");
      }
    }
    core_.LeaveGate();
    Finish(std::move(status));
  }

  void Finish(absl::Status status) {
    Unwatch();
    if (absl::IsAborted(status)) return Start();
    if (absl::IsCancelled(status)) return Wait();
    done_(std::move(status));
  }

  void Wait() {
    path_.TryOrWait([self = shared_from_this()](const absl::Status& failed) {
      if (!failed.ok()) {
        self->done_(failed);
        return true;
      }
      if (self->core_.gate().is_closed()) return false;
      // An attempt leaves the line, reads the edges again and may come back to
      // its end: not for nothing, or background work would run in a circle.
      // Once without looking, since there may be room in an open segment.
      if (!self->admitted_) {
        self->admitted_ = self->core_.throttle().Admit(self->whole_.length,
                                                       self->since_);
        if (!self->admitted_) return false;
      } else if (std::exchange(self->retried_, true) &&
                 self->core_.space().payload_left() == 0) {
        return false;
      }
      self->Start();
      return true;
    });
  }

  WritePath& path_;
  ImageCore& core_;
  const ImageRange range_;
  const ImageRange whole_;
  const AlignedBuffer bytes_;
  AlignedBuffer buffer_;
  Placeholders placeholders_;
  const absl::Time since_;
  bool admitted_ = false;  // by the throttle
  bool retried_ = false;
  Done done_;
};

void WritePath::Write(ImageRange range, std::span<const std::byte> bytes,
                      CachedImage::Payload payload, Done done) {
  core_.counters().Add(Counter::kWrites);
  core_.counters().Add(Counter::kWriteBytes, range.length);
  if (IsSectorAligned(range)) {
    WriteSectors(range, bytes, payload, std::move(done));
    return;
  }
  if (range.length <= kMaxUnaligned) {
    std::make_shared<Unaligned>(*this, range, bytes, std::move(done))->Start();
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
      std::make_shared<Unaligned>(*this, part, part_bytes,
                                  JoinedDone::Part(join))
          ->Start();
    }
  };
  write_part(range.offset.value(), begin);
  write_part(begin, end);
  write_part(end, range.end().value());
}

void WritePath::WriteSectors(ImageRange range,
                             std::span<const std::byte> bytes,
                             CachedImage::Payload payload, Done done) {
  // No more than a segment: an attempt must succeed as soon as reclaim has
  // freed one.
  const uint64_t largest =
      std::min<uint64_t>(kMaxWrite, core_.table().geometry().segment_size());
  if (range.length <= largest) {
    WriteAligned(range, bytes, payload, std::move(done));
    return;
  }
  auto join = std::make_shared<JoinedDone>(std::move(done));
  for (uint64_t at = 0; at < range.length; at += largest) {
    const uint64_t length = std::min(largest, range.length - at);
    WriteAligned({range.offset + at, length}, bytes.subspan(at, length),
                 payload, JoinedDone::Part(join));
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

void WritePath::WriteAligned(ImageRange range,
                             std::span<const std::byte> bytes,
                             CachedImage::Payload payload, Done done) {
  const bool admitted =
      !has_waiting() && core_.throttle().Admit(range.length);
  if (admitted && core_.gate().Enter()) {
    absl::Status status = absl::ResourceExhaustedError("");
    if (!GoesAround(core_.settings().mode())) {
      status = TryChange(KeyKind::kWrite, range, bytes, {});
    }
    core_.LeaveGate();
    if (!absl::IsResourceExhausted(status)) {
      done(std::move(status));
      return;
    }
  }
  auto request = std::make_shared<Request>(
      Request{.kind = KeyKind::kWrite,
              .range = range,
              .bytes = bytes,
              .copy = AlignedBuffer(),
              .since = core_.clock().Now(),
              .admitted = admitted,
              .done = std::move(done)});
  if (payload == CachedImage::Payload::kCopyIfWaiting) {
    request->copy = Copy(bytes);
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
    Write({ImageOffset(from), to - from}, std::span(kZeros).first(to - from),
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
