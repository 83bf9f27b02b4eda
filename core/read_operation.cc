#include "core/read_operation.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/aligned_buffer.h"
#include "core/publish.h"
#include "core/write_path.h"

namespace pcachefs {

void ReadOperation::AddMiss(Shard& shard, ImageRange miss) {
  // The placeholder that begins first within the rest of the range.
  while (!miss.empty()) {
    std::shared_ptr<Fill> first;
    for (const auto& fill : shard.fills) {
      if (!fill->range.Overlaps(miss)) continue;
      if (first == nullptr || fill->range.offset < first->range.offset) {
        first = fill;
      }
    }
    if (first == nullptr) return AddOwnRead(shard, miss, /*fill=*/true);
    if (miss.offset < first->range.offset) {
      const uint64_t length = first->range.offset - miss.offset;
      AddOwnRead(shard, {miss.offset, length}, /*fill=*/true);
      miss = {miss.offset + length, miss.length - length};
    }
    const uint64_t length =
        std::min(miss.end(), first->range.end()) - miss.offset;
    const ImageRange shared = {miss.offset, length};
    if (first->arrived || first->overwritten) {
      AddOwnRead(shard, shared, /*fill=*/false);
    } else {
      core_.counters().Add(Counter::kSharedMisses);
      first->waiters.push_back(
          {.range = shared,
           .deliver = [this, shared, part = AddPart()](
                          const std::byte* bytes,
                          absl::Status status) mutable {
             if (status.ok()) {
               std::memcpy(Buffer(shared).data(), bytes, shared.length);
             }
             part(std::move(status));
           }});
    }
    miss = {miss.offset + length, miss.length - length};
  }
}

void ReadOperation::AddOwnRead(Shard& shard, ImageRange miss, bool fill) {
  std::shared_ptr<Fill> placeholder;
  if (fill) {
    placeholder = std::make_shared<Fill>();
    placeholder->range = miss;
    shard.fills.push_back(placeholder);
  }
  requests_.push_back(RequestFor(miss, std::move(placeholder)));
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
                  fill = std::move(fill)](absl::Status status) {
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
  if (fill != nullptr) {
    Shard& shard = ShardOf(*fill);
    absl::MutexLock lock(&shard.mutex);
    fill->arrived = true;
    waiters.swap(fill->waiters);
    if (!status.ok()) shard.ForgetFill(fill.get());
  }
  const bool fill_cache = fill != nullptr && status.ok();
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
    status =
        WritePayload(core_, KeyKind::kFill, fill->range, bytes, keys);
  }
  if (status.ok()) {
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
