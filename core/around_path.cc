#include "core/around_path.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/mutation.h"
#include "core/shard.h"
#include "core/write_path.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Keys of one set, when lost ranges cut what is forgotten into pieces.
constexpr size_t kMaxForgets = 1000;

BackingRequest::Operation OperationOf(KeyKind kind) {
  if (kind == KeyKind::kZero) return BackingRequest::Operation::kZero;
  if (kind == KeyKind::kDiscard) return BackingRequest::Operation::kDiscard;
  return BackingRequest::Operation::kWrite;
}

PendingKey ForgetKey(ImageOffset begin, ImageOffset end) {
  return {.key = {.kind = KeyKind::kForget, .range = {begin, end - begin}}};
}

absl::Status Closed() {
  return absl::UnavailableError("the image is being closed");
}

// What the index says of a range.
struct Cached {
  bool anything = false;  // but lost ranges
  PendingKeys lost;       // as keys of their ranges
};

Cached LookLocked(ImageCore& core, ImageRange range)
    ABSL_NO_THREAD_SAFETY_ANALYSIS {
  Cached cached;
  ForEachSlice(range, [&](const ShardSlice& slice)
                          ABSL_NO_THREAD_SAFETY_ANALYSIS {
    core.shards()[slice.shard].index.Visit(
        slice.start, slice.length, [&](const KeyIndex::Piece& piece) {
          if (piece.source.kind() != PieceSource::Kind::kLost) {
            cached.anything = true;
            return;
          }
          const ImageOffset begin = slice.OffsetOf(piece.start);
          cached.lost.push_back(
              ForgetKey(begin, begin + uint64_t{piece.length} * kSectorSize));
        });
  });
  return cached;
}

// Keys that forget the range except what is lost: that stays so until the
// change is durable on the backing device, or what it held before the loss
// would be read again.
PendingKeys ForgetsBetween(ImageRange range, const PendingKeys& lost) {
  PendingKeys forgets;
  ImageOffset next = range.offset;
  for (const PendingKey& key : lost) {
    if (next < key.key.range.offset) {
      forgets.push_back(ForgetKey(next, key.key.range.offset));
    }
    next = key.key.range.end();
  }
  if (next < range.end()) forgets.push_back(ForgetKey(next, range.end()));
  return forgets;
}

}  // namespace

class AroundPath::Operation : public std::enable_shared_from_this<Operation> {
 public:
  Operation(AroundPath& path, const Change& change, Placeholders edges,
            Done done)
      : path_(path),
        core_(path.core_),
        change_(change),
        edges_(std::move(edges)),
        done_(std::move(done)) {}

  ImageRange range() const { return change_.range; }
  bool has_begun() const { return has_begun_; }
  void set_has_begun() { has_begun_ = true; }

  // ResourceExhausted: the log has no room, nothing was done, and the operation
  // is still to be ended. Else it ends by itself.
  absl::Status Begin(Submission submission) {
    absl::Status status = Forget();
    if (absl::IsResourceExhausted(status)) return status;
    if (!status.ok()) {
      End(std::move(status));
    } else if (needs_barrier_) {
      core_.Commit(/*end_epoch=*/false,
                   [self = shared_from_this()](absl::Status committed) {
                     if (!committed.ok()) return self->End(committed);
                     self->Submit(Submission::kQueued);
                   });
    } else {
      Submit(submission);
    }
    return absl::OkStatus();
  }

  // The range is free for the next one; the answer.
  void End(absl::Status status) {
    {
      ShardLocks locks(core_.shards(), change_.range);
      ForEachSlice(change_.range, [&](const ShardSlice& slice)
                                      ABSL_NO_THREAD_SAFETY_ANALYSIS {
        Shard& shard = core_.shards()[slice.shard];
        // An edge that someone read for an unaligned write while the device
        // was changing.
        if (forgotten_) shard.KillFills(slice.range());
        for (const auto& placeholder : placeholders_) {
          shard.ForgetFill(placeholder.get());
        }
      });
    }
    path_.OnEnd(this);
    done_(std::move(status));
  }

 private:
  absl::Status Forget() {
    ShardLocks locks(core_.shards(), change_.range);
    for (const auto& edge : edges_) {
      if (edge->overwritten) {
        return absl::AbortedError("overwritten in the meantime");
      }
    }
    const Cached cached = LookLocked(core_, change_.range);
    if (cached.lost.size() > kMaxForgets) {
      return absl::DataLossError(absl::StrCat(
          "image ", core_.name(), ": ", change_.range.length, " bytes at ",
          change_.range.offset.value(), " hold ", cached.lost.size(),
          " ranges that were lost on the cache device, want at most ",
          kMaxForgets, ": overwrite them in smaller requests"));
    }
    has_lost_ = !cached.lost.empty();
    if (cached.anything || core_.index_lags()) {
      const PendingKeys forgets = ForgetsBetween(change_.range, cached.lost);
      if (!forgets.empty()) {
        RETURN_IF_ERROR(AppendLocked(core_, forgets));
        path_.NoteForget();
      }
    }
    // Also if the forget of an earlier change is not durable yet.
    needs_barrier_ = path_.last_forget_ > core_.log().durable().value() &&
                     !Planted(Mutation::kForgetWithoutBarrier);
    ForEachSlice(change_.range, [&](const ShardSlice& slice)
                                    ABSL_NO_THREAD_SAFETY_ANALYSIS {
      Shard& shard = core_.shards()[slice.shard];
      shard.KillFills(slice.range());
      auto placeholder = std::make_shared<Fill>();
      placeholder->range = slice.range();
      placeholder->arrived = true;
      shard.fills.push_back(placeholder);
      placeholders_.push_back(std::move(placeholder));
    });
    forgotten_ = true;
    return absl::OkStatus();
  }

  void Submit(Submission submission) {
    if (path_.stopped_) return End(Closed());
    BackingRequest request;
    request.operation = OperationOf(change_.kind);
    request.kind = BackingRequest::Kind::kRequestType;
    request.offset = change_.range.offset.value();
    request.length = change_.range.length;
    if (change_.kind == KeyKind::kWrite) {
      request.buffers.push_back(
          {const_cast<std::byte*>(change_.bytes.data()),
           change_.bytes.size()});
    }
    request.done = [self = shared_from_this()](absl::Status status) {
      self->OnChanged(std::move(status));
    };
    std::vector<BackingRequest> requests;
    requests.push_back(std::move(request));
    core_.backing().Submit(std::move(requests), submission);
  }

  void OnChanged(absl::Status status) {
    if (!status.ok()) {
      core_.counters().Add(Counter::kBackingWriteErrors);
      return End(std::move(status));
    }
    if (has_lost_) {
      path_.FlushBacking([self = shared_from_this()](absl::Status flushed) {
        if (!flushed.ok()) self->path_.NoteFlushFailed();
        if (flushed.ok()) flushed = self->ForgetLost();
        self->End(std::move(flushed));
      });
      return;
    }
    if (core_.settings().mode() == CacheMode::kWritethrough) FillCache();
    End(absl::OkStatus());
  }

  // Lost ranges are overwritten, durably. Waits for no room in the log: the
  // ranges stay lost then, and the writer tries again.
  absl::Status ForgetLost() {
    const PendingKey key =
        ForgetKey(change_.range.offset, change_.range.end());
    const absl::Status status =
        PublishKeys(core_, change_.range, {&key, 1}, {});
    if (absl::IsResourceExhausted(status)) {
      return absl::UnavailableError(absl::StrCat(
          "image ", core_.name(), ": no room in the log to note that lost data "
          "at ", change_.range.offset.value(), " was overwritten: try again"));
    }
    RETURN_IF_ERROR(status);
    path_.NoteForget();
    return absl::OkStatus();
  }

  void FillCache() {
    if (change_.kind != KeyKind::kWrite) return;
    PendingKeys keys;
    absl::Status status = absl::ResourceExhaustedError("writers wait");
    if (!core_.write_path().has_waiting()) {
      status = WritePayload(core_, KeyKind::kProvisional, change_.range,
                            change_.bytes, keys);
    }
    if (status.ok()) {
      status = PublishKeys(core_, change_.range, keys, placeholders_);
      if (!status.ok()) AbandonPayload(core_, keys);
    }
    if (status.ok()) {
      core_.counters().Add(Counter::kFills);
      core_.counters().Add(Counter::kFillBytes, change_.range.length);
    } else {
      core_.counters().Add(Counter::kFillsDropped);
      if (absl::IsResourceExhausted(status)) core_.Kick();
    }
  }

  AroundPath& path_;
  ImageCore& core_;
  const Change change_;
  const Placeholders edges_;
  Placeholders placeholders_;  // one per stripe
  bool has_begun_ = false;     // guarded by the path's mutex
  bool forgotten_ = false;
  bool needs_barrier_ = false;
  bool has_lost_ = false;
  Done done_;
};

bool AroundPath::Start(const Change& change, Placeholders edges, Done done) {
  auto operation = std::make_shared<Operation>(*this, change, std::move(edges),
                                               std::move(done));
  {
    absl::MutexLock lock(&mutex_);
    bool overlaps = false;
    for (const auto& earlier : operations_) {
      overlaps |= earlier->range().Overlaps(change.range);
    }
    operations_.push_back(operation);
    if (overlaps) return true;
    operation->set_has_begun();
  }
  if (operation->Begin(Submission::kDirect).ok()) return true;
  OnEnd(operation.get());
  return false;
}

void AroundPath::OnEnd(const Operation* ended) {
  std::vector<std::shared_ptr<Operation>> ready;
  {
    absl::MutexLock lock(&mutex_);
    operations_.remove_if(
        [ended](const auto& operation) { return operation.get() == ended; });
    for (auto it = operations_.begin(); it != operations_.end(); ++it) {
      if ((*it)->has_begun()) continue;
      bool overlaps = false;
      for (auto earlier = operations_.begin(); earlier != it; ++earlier) {
        overlaps |= (*earlier)->range().Overlaps((*it)->range());
      }
      if (overlaps) continue;
      (*it)->set_has_begun();
      ready.push_back(*it);
    }
  }
  for (const auto& operation : ready) {
    if (!operation->Begin(Submission::kQueued).ok()) {
      operation->End(absl::CancelledError("the log has no room"));
    }
  }
}

void AroundPath::NoteForget() {
  const uint64_t last = core_.log().last().value();
  uint64_t known = last_forget_;
  while (known < last && !last_forget_.compare_exchange_weak(known, last)) {
  }
}

void AroundPath::Flush(Done done) {
  FlushBacking([this, done = std::move(done)](absl::Status status) mutable {
    if (flush_failed_.exchange(false) && status.ok()) {
      status = absl::UnavailableError(absl::StrCat(
          "image ", core_.name(), ": an earlier flush of the backing device "
          "failed: what was written before it may not be durable"));
    }
    if (!status.ok()) return done(std::move(status));
    // Forgets of ranges that were lost have waited for no barrier yet; fills
    // need none.
    if (last_forget_ <= core_.log().durable().value()) {
      return done(core_.barrier().status());
    }
    core_.Commit(/*end_epoch=*/false, std::move(done));
  });
}

void AroundPath::FlushBacking(Done done) {
  {
    absl::MutexLock lock(&mutex_);
    flush_next_.push_back(std::move(done));
    if (flushing_) return;
    flushing_ = true;
  }
  StartFlush();
}

void AroundPath::StartFlush() {
  {
    absl::MutexLock lock(&mutex_);
    flush_running_ = std::exchange(flush_next_, {});
  }
  if (stopped_) return OnFlushed(Closed());
  core_.counters().Add(Counter::kBackingFlushes);
  BackingRequest flush;
  flush.operation = BackingRequest::Operation::kFlush;
  flush.kind = BackingRequest::Kind::kMemoryType;
  flush.done = [this](absl::Status status) { OnFlushed(status); };
  std::vector<BackingRequest> requests;
  requests.push_back(std::move(flush));
  core_.backing().Submit(std::move(requests), Submission::kQueued);
}

void AroundPath::OnFlushed(const absl::Status& status) {
  std::vector<Done> answered;
  bool more = false;
  {
    absl::MutexLock lock(&mutex_);
    answered = std::exchange(flush_running_, {});
    more = flushing_ = !flush_next_.empty();
  }
  if (more) StartFlush();
  for (Done& done : answered) done(status);
}

}  // namespace pcachefs
