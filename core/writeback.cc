#include "core/writeback.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/around_path.h"
#include "core/mutation.h"
#include "core/publish.h"
#include "core/write_path.h"
#include "glog/logging.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

// Failures in a row after which those who wait for a drain are told.
constexpr int kFailuresBeforeDrainEnds = 5;

// How many times the bytes of a batch may be in one that is a group of epochs.
constexpr uint64_t kBatchesInGroup = 4;

// Failures of the cache device in a row after which dirty data that it cannot
// read is lost, so that the rest can be written back: about half a minute.
constexpr int kFailuresBeforeGivingUp = 11;

}  // namespace

bool Writeback::Step() {
  switch (phase_.load(std::memory_order_acquire)) {
    case Phase::kIdle:
      if (AnswerDrains()) return true;
      if (core_.barrier().failed()) {
        // That does not go away by itself.
        return FailDrains(core_.barrier().status());
      }
      if (stopping_) return false;
      if (ClearMixedEpochs()) return true;
      return MayStartBatch() && StartBatch();
    case Phase::kWriting:
    case Phase::kFlushing:
      return false;
    case Phase::kWritten:
    case Phase::kFlushed:
      break;
  }
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    status = std::exchange(batch_status_, absl::OkStatus());
  }
  if (!status.ok() && !Planted(Mutation::kDirtyTailDespiteError)) {
    core_.counters().Add(Counter::kBackingWriteErrors);
    if (GoesAround(core_.settings().mode())) {
      core_.around_path().NoteFlushFailed();
    }
    Fail(status);
  } else if (phase_ == Phase::kWritten &&
             !Planted(Mutation::kDirtyTailBeforeFlush)) {
    SubmitFlush();
  } else {
    FinishBatch();
  }
  return true;
}

void Writeback::Drain(Done done) {
  if (core_.read_only_backing()) {
    done(absl::FailedPreconditionError(absl::StrCat(
        "image ", core_.name(), ": its backing device is read-only: what was "
        "written stays in the cache")));
    return;
  }
  const SequenceNumber target = core_.log().last_dirty();
  {
    absl::MutexLock lock(&mutex_);
    drains_.push_back({target, std::move(done)});
  }
  // Only what is durable on the cache device may be written back.
  core_.Commit(/*end_epoch=*/false,
               [this](absl::Status) { core_.Kick(); });
}

bool Writeback::Stop() {
  stopping_ = true;
  const Phase phase = phase_.load(std::memory_order_acquire);
  return phase != Phase::kWriting && phase != Phase::kFlushing;
}

bool Writeback::backing_consistent() {
  return core_.tails().dirty_tail().sequence.value() >= mixed_until_;
}

void Writeback::NoteMixed(SequenceNumber end) {
  if (mixed_until_ < end.value()) mixed_until_ = end.value();
}

bool Writeback::ClearMixedEpochs() {
  if (!core_.settings().mixed_epochs() ||
      core_.settings().order() != WritebackOrder::kStrict ||
      !backing_consistent()) {
    return false;
  }
  return core_
      .ChangeRecord([](ImageRecord& record) {
        record.mixed_epochs = false;
        return absl::OkStatus();
      })
      .ok();
}

bool Writeback::MayStartBatch() {
  const absl::Time now = core_.clock().Now();
  if (now < retry_at_ || core_.read_only() || core_.read_only_backing()) {
    return false;
  }
  if (!GoesAround(core_.settings().mode())) return true;
  return now >= next_around_ || core_.write_path().has_waiting();
}

bool Writeback::StartBatch() {
  const LogPosition tail = core_.tails().dirty_tail();
  const SequenceNumber durable = core_.log().durable();
  if (tail.sequence > durable) {
    // Nothing that a barrier covers. Someone who waits cannot wait for the
    // commit timer.
    const bool wanted = core_.write_path().has_waiting();
    if (wanted && core_.log().last() >= tail.sequence) {
      core_.Commit(/*end_epoch=*/false,
                   [this](absl::Status) { core_.Kick(); });
    }
    return false;
  }
  const uint64_t bytes = pace_.NextBatch(LargestBatch(), IsUrgent());
  if (bytes == 0) return false;
  batch_ = std::make_unique<WritebackBatch>(core_);
  if (GoesAround(core_.settings().mode())) {
    next_around_ = core_.clock().Now() + core_.options().commit_interval;
  }
  const absl::Status collected =
      batch_->Collect(tail, durable, bytes, core_.settings().order());
  if (!collected.ok()) {
    Fail(collected);
    return true;
  }
  SubmitWrites();
  return true;
}

void Writeback::SubmitWrites() {
  absl::StatusOr<std::vector<BackingRequest>> requests =
      batch_->MakeRequests(unreadable_ >= kFailuresBeforeGivingUp);
  if (!requests.ok()) {
    ++unreadable_;
    return Fail(requests.status());
  }
  // What was given up once is so at every attempt until one succeeds.
  if (unreadable_ < kFailuresBeforeGivingUp) unreadable_ = 0;
  if (requests->empty()) {
    if (batch_->has_provisional_keys()) return SubmitFlush();
    FinishBatch();
    return;
  }
  pace_.Began(batch_->bytes_to_write());
  core_.counters().Add(Counter::kWritebackBatches);
  if (batch_->spans_epochs()) {
    NoteMixed(batch_->end().sequence);
    group_in_flight_ = true;
  }
  pending_ = requests->size() + 1;
  phase_ = Phase::kWriting;
  for (BackingRequest& request : *requests) {
    const bool is_write =
        request.operation == BackingRequest::Operation::kWrite;
    request.done = [this, bytes = is_write ? request.length : 0,
                    began = core_.clock().NowNanos()](absl::Status status) {
      core_.counters().AddLatency(Timing::kBackingWrite,
                                  core_.clock().NowNanos() - began);
      OnRequestDone(bytes, std::move(status));
    };
  }
  core_.backing().Submit(*std::move(requests), Submission::kDirect);
  OnRequestDone(0, absl::OkStatus());
}

void Writeback::SubmitFlush() {
  core_.counters().Add(Counter::kBackingFlushes);
  pending_ = 1;
  phase_ = Phase::kFlushing;
  BackingRequest flush;
  flush.operation = BackingRequest::Operation::kFlush;
  flush.kind = BackingRequest::Kind::kMemoryType;
  flush.done = [this](absl::Status status) {
    OnRequestDone(0, std::move(status));
  };
  std::vector<BackingRequest> requests;
  requests.push_back(std::move(flush));
  core_.backing().Submit(std::move(requests), Submission::kDirect);
}

bool Writeback::IsUrgent() {
  // Around the cache there is nothing to pace but flushes, which MayStartBatch
  // does.
  if (core_.write_path().has_waiting() || core_.throttle().in_zone() ||
      GoesAround(core_.settings().mode())) {
    return true;
  }
  const uint32_t max_age = core_.settings().max_dirty_age();
  // From half the age on, so that it is never reached.
  if (max_age != 0 && core_.OldestDirtyAge() * 2 >= absl::Seconds(max_age)) {
    return true;
  }
  absl::MutexLock lock(&mutex_);
  return !drains_.empty();
}

uint64_t Writeback::LargestBatch() {
  const uint64_t share = uint64_t{core_.space().share()} *
                         core_.table().geometry().segment_size();
  const uint64_t most = core_.options().writeback_batch *
                        (core_.settings().order() == WritebackOrder::kStrict
                             ? 1
                             : kBatchesInGroup);
  return std::min(most, std::max<uint64_t>(share / 8, kMiB));
}

void Writeback::OnRequestDone(uint64_t bytes, absl::Status status) {
  if (!status.ok()) {
    absl::MutexLock lock(&mutex_);
    if (batch_status_.ok()) batch_status_ = std::move(status);
  } else if (bytes != 0) {
    core_.throttle().Credit(bytes);
    if (core_.write_path().has_waiting()) core_.Kick();
  }
  if (pending_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  phase_.store(phase_ == Phase::kWriting ? Phase::kWritten : Phase::kFlushed,
               std::memory_order_release);
  core_.Kick();
}

bool Writeback::FinishBatch() {
  for (const WritebackBatch::LostRange& lost : batch_->lost()) {
    const absl::Status marked = MarkLost(core_, lost.range, lost.source);
    if (!marked.ok()) {
      Fail(marked);
      return true;
    }
    core_.NoteLost(lost.range, lost.why);
  }
  if (!batch_->lost().empty()) {
    // No crash may keep the new dirty_tail and not the marks.
    const absl::Status persisted =
        Planted(Mutation::kLostMarksWithoutBarrier)
            ? absl::OkStatus()
            : core_.barrier().Persist();
    if (!persisted.ok()) {
      Fail(persisted);
      return true;
    }
  }
  const SequenceNumber covered = core_.log().last();
  const bool wrote = batch_->has_dirty_keys();
  if (wrote) core_.counters().Add(Counter::kWritebackBytes,
                                  batch_->bytes_to_write());
  absl::Status status = core_.tails().StoreDirtyTail(batch_->end());
  // The next epoch may only be touched, and segments only be freed, when no
  // crash can bring this epoch back. If nothing was dirty there is nothing to
  // bring back.
  if (status.ok() && wrote &&
      !Planted(Mutation::kNextEpochBeforeDirtyTail)) {
    status = core_.tails().Persist();
    if (status.ok()) core_.log().MarkDurable(covered);
  }
  if (!status.ok()) {
    Fail(status);
    return true;
  }
  batch_->MarkClean();
  batch_.reset();
  core_.tails().ShowDirtyTail();
  group_in_flight_ = false;
  Succeed();
  return true;
}

void Writeback::Fail(const absl::Status& status) {
  batch_.reset();
  group_in_flight_ = false;
  phase_ = Phase::kIdle;
  const CacheOptions& options = core_.options();
  back_off_ = failures_ == 0 ? options.retry_first
                             : std::min(back_off_ * 2, options.retry_last);
  ++failures_;
  retry_at_ = core_.clock().Now() + back_off_;
  if (core_.health().Set(HealthState::kDegraded,
                         absl::StrCat("writeback: ", status.message()))) {
    LOG(ERROR) << "image " << core_.name()
               << ": writeback failed and is tried again: " << status;
  }
  if (failures_ >= kFailuresBeforeDrainEnds) FailDrains(status);
}

bool Writeback::FailDrains(const absl::Status& status) {
  std::vector<DrainWaiter> drains;
  {
    absl::MutexLock lock(&mutex_);
    drains.swap(drains_);
  }
  for (DrainWaiter& drain : drains) drain.done(status);
  return !drains.empty();
}

void Writeback::Succeed() {
  phase_ = Phase::kIdle;
  retry_at_ = absl::InfinitePast();
  failures_ = 0;
  unreadable_ = 0;
  if (core_.health().Set(HealthState::kDegraded, core_.lasting_reason())) {
    LOG(INFO) << "image " << core_.name() << ": writeback works again";
  }
}

bool Writeback::AnswerDrains() {
  const SequenceNumber reached = core_.tails().dirty_tail().sequence;
  std::vector<DrainWaiter> drained;
  {
    absl::MutexLock lock(&mutex_);
    for (auto it = drains_.begin(); it != drains_.end();) {
      if (it->target < reached) {
        drained.push_back(std::move(*it));
        it = drains_.erase(it);
      } else {
        ++it;
      }
    }
  }
  for (DrainWaiter& drain : drained) drain.done(absl::OkStatus());
  return !drained.empty();
}

}  // namespace pcachefs
