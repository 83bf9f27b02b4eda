#include "core/read_operation.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/aligned_buffer.h"
#include "core/publish.h"
#include "core/write_path.h"

namespace pcachefs {

namespace {

std::shared_ptr<Fill> PlaceholderFor(Shard& shard, ImageRange range)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex) {
  auto placeholder = std::make_shared<Fill>();
  placeholder->range = range;
  shard.fills.push_back(placeholder);
  return placeholder;
}

// Before anyone can see the keys: their first reader takes the marks away.
void MarkReadAhead(ImageCore& core, std::span<const PendingKey> keys) {
  for (const PendingKey& pending : keys) {
    core.table()
        .segment(pending.key.position.segment)
        .MarkReadAhead(pending.key.position.offset.value() / kBlockSize,
                       pending.checksums.size());
  }
}

}  // namespace

void ReadOperation::AddMiss(Shard& shard, ImageRange miss, Keep keep) {
  keep_ = keep;
  // The placeholder that begins first within the rest of the range.
  while (!miss.empty()) {
    std::shared_ptr<Fill> first;
    for (const auto& fill : shard.fills) {
      if (!fill->range.Overlaps(miss)) continue;
      if (first == nullptr || fill->range.offset < first->range.offset) {
        first = fill;
      }
    }
    if (first == nullptr) {
      requests_.push_back(RequestFor(miss, PlaceholderFor(shard, miss)));
      return;
    }
    if (miss.offset < first->range.offset) {
      const uint64_t length = first->range.offset - miss.offset;
      const ImageRange before = {miss.offset, length};
      requests_.push_back(
          RequestFor(before, PlaceholderFor(shard, before)));
      miss = {miss.offset + length, miss.length - length};
    }
    const uint64_t length =
        std::min(miss.end(), first->range.end()) - miss.offset;
    const ImageRange shared = {miss.offset, length};
    if (first->arrived || first->overwritten) {
      requests_.push_back(RequestFor(shared, nullptr));
    } else {
      WaitFor(*first, shared);
    }
    miss = {miss.offset + length, miss.length - length};
  }
}

void ReadOperation::WaitFor(Fill& fill, ImageRange shared) {
  core_.counters().Add(Counter::kSharedMisses);
  if (fill.is_read_ahead) {
    fill.is_used = true;
    core_.counters().Add(Counter::kReadAheadUsedBytes, shared.length);
  }
  fill.waiters.push_back(
      {.range = shared,
       .deliver = [this, shared, is_read_ahead = fill.is_read_ahead,
                   part = AddPart()](const std::byte* bytes,
                                     absl::Status status) mutable {
         if (status.ok()) {
           std::memcpy(Buffer(shared).data(), bytes, shared.length);
         } else if (is_read_ahead) {
           // What failed may be a part that nobody had asked for.
           std::vector<BackingRequest> again;
           again.push_back(RequestFor(shared, nullptr));
           core_.backing().Submit(std::move(again), Submission::kQueued);
           status = absl::OkStatus();
         }
         part(std::move(status));
       }});
}

bool ReadOperation::AddReadAhead(Shard& shard, ImageRange gap) {
  for (const auto& fill : shard.fills) {
    if (fill->range.Overlaps(gap)) return false;
  }
  std::shared_ptr<Fill> placeholder = PlaceholderFor(shard, gap);
  placeholder->is_read_ahead = true;
  is_read_ahead_ = true;
  requests_.push_back(RequestFor(gap, std::move(placeholder)));
  return true;
}

BackingRequest ReadOperation::RequestFor(ImageRange miss,
                                         std::shared_ptr<Fill> fill) {
  pending_.fetch_add(1, std::memory_order_relaxed);
  BackingRequest request;
  request.operation = BackingRequest::Operation::kRead;
  request.kind = BackingRequest::Kind::kRequestType;
  request.offset = miss.offset.value();
  request.length = miss.length;
  request.buffers.push_back(Buffer(miss));
  request.done = [self = shared_from_this(), miss,
                  began = core_.clock().NowNanos(),
                  fill = std::move(fill)](absl::Status status) {
    self->core_.counters().AddLatency(
        Timing::kBackingRead, self->core_.clock().NowNanos() - began);
    self->OnRead(miss, fill, std::move(status));
  };
  return request;
}

ReadOperation::Done ReadOperation::AddPart() {
  pending_.fetch_add(1, std::memory_order_relaxed);
  return [self = shared_from_this()](absl::Status status) {
    self->PartDone(std::move(status));
  };
}

void ReadOperation::Start() {
  if (!requests_.empty()) {
    core_.backing().Submit(std::move(requests_), Submission::kDirect);
  }
  PartDone(absl::OkStatus());
}

void ReadOperation::OnRead(ImageRange miss, const std::shared_ptr<Fill>& fill,
                           absl::Status status) {
  if (!status.ok()) core_.counters().Add(Counter::kBackingReadErrors);
  std::vector<Fill::Waiter> waiters;
  const bool fill_cache = fill != nullptr && status.ok() &&
                          keep_ == Keep::kFill &&
                          FillsReads(core_.settings().mode());
  if (fill != nullptr) {
    Shard& shard = ShardOf(*fill);
    absl::MutexLock lock(&shard.mutex);
    fill->arrived = true;
    waiters.swap(fill->waiters);
    if (!fill_cache) shard.ForgetFill(fill.get());
  }
  std::span<const std::byte> bytes = Buffer(miss);
  for (Fill::Waiter& waiter : waiters) {
    waiter.deliver(bytes.data() + (waiter.range.offset - miss.offset), status);
  }
  AlignedBuffer copy;
  if (fill_cache && buffer_ == CachedImage::Buffer::kUntilAnswered) {
    copy = AlignedBuffer(bytes.size());
    std::memcpy(copy.data(), bytes.data(), bytes.size());
    bytes = copy.span();
  }
  PartDone(std::move(status));
  if (fill_cache) FillCache(fill, bytes);
}

void ReadOperation::FillCache(const std::shared_ptr<Fill>& fill,
                              std::span<const std::byte> bytes) {
  PendingKeys keys;
  absl::Status status = absl::ResourceExhaustedError("writers wait");
  // Nobody waits for a fill, and it never takes space that someone waits for.
  if (!core_.write_path().has_waiting()) {
    status = WritePayload(core_, core_.FillKind(), fill->range, bytes, keys);
  }
  if (status.ok()) {
    if (fill->is_read_ahead && !fill->is_used) MarkReadAhead(core_, keys);
    status = PublishKeys(core_, fill->range, keys, {&fill, 1});
    if (!status.ok()) AbandonPayload(core_, keys);
  }
  {
    Shard& shard = ShardOf(*fill);
    absl::MutexLock lock(&shard.mutex);
    shard.ForgetFill(fill.get());
  }
  if (status.ok()) {
    core_.counters().Add(Counter::kFills);
    core_.counters().Add(Counter::kFillBytes, fill->range.length);
  } else {
    core_.counters().Add(Counter::kFillsDropped);
    if (absl::IsResourceExhausted(status)) core_.Kick();
  }
}

void ReadOperation::PartDone(absl::Status status) {
  if (!status.ok()) {
    absl::MutexLock lock(&mutex_);
    if (status_.ok()) status_ = std::move(status);
  }
  if (pending_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  absl::Status first_error;
  {
    absl::MutexLock lock(&mutex_);
    first_error = status_;
  }
  if (!is_read_ahead_) {
    core_.counters().AddLatency(Timing::kReadMiss,
                                core_.clock().NowNanos() - began_);
  }
  done_(std::move(first_error));
}

Shard& ReadOperation::ShardOf(const Fill& fill) {
  Shard* found = nullptr;
  ForEachSlice(fill.range, [&](const ShardSlice& slice) {
    found = &core_.shards()[slice.shard];
  });
  return *found;
}

}  // namespace pcachefs
