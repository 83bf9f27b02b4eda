#include "core/unaligned_write.h"

#include <cstring>
#include <memory>
#include <utility>

#include "core/around_path.h"
#include "core/joined_done.h"
#include "core/read_path.h"
#include "core/shard.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

ImageRange WidenToSectors(ImageRange range) {
  const ImageOffset begin(RoundDown(range.offset.value(), kSectorSize));
  return {begin, RoundUp(range.end().value(), kSectorSize) - begin.value()};
}

}  // namespace

UnalignedWrite::UnalignedWrite(WritePath& path, ImageRange range,
                               std::span<const std::byte> bytes,
                               WritePath::Done done)
    : path_(path),
      core_(path.core_),
      range_(range),
      whole_(WidenToSectors(range)),
      bytes_(CopyOf(bytes)),
      buffer_(whole_.length),
      since_(core_.clock().Now()),
      done_(std::move(done)) {}

void UnalignedWrite::Start() {
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

absl::InlinedVector<ImageRange, 2> UnalignedWrite::Edges() const {
  const ImageRange first = {whole_.offset, kSectorSize};
  const ImageRange last = {whole_.end() - kSectorSize, kSectorSize};
  absl::InlinedVector<ImageRange, 2> edges;
  if (first.offset != range_.offset || first == last) edges.push_back(first);
  if (last.end() != range_.end() && first != last) edges.push_back(last);
  return edges;
}

void UnalignedWrite::Watch(ImageRange edge) {
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

void UnalignedWrite::Unwatch() {
  for (const auto& placeholder : placeholders_) {
    ForEachSlice(placeholder->range, [&](const ShardSlice& slice) {
      Shard& shard = core_.shards()[slice.shard];
      absl::MutexLock lock(&shard.mutex);
      shard.ForgetFill(placeholder.get());
    });
  }
  placeholders_.clear();
}

void UnalignedWrite::OnEdgesRead(absl::Status status) {
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

void UnalignedWrite::Finish(absl::Status status) {
  Unwatch();
  if (absl::IsAborted(status)) return Start();
  if (absl::IsCancelled(status)) return Wait();
  done_(std::move(status));
}

void UnalignedWrite::Wait() {
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

}  // namespace pcachefs
