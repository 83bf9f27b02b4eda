#include "core/image_core.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/around_path.h"
#include "core/carry.h"
#include "core/mode_switch.h"
#include "core/mutation.h"
#include "core/read_path.h"
#include "core/reclaim.h"
#include "core/write_path.h"
#include "core/writeback.h"
#include "glog/logging.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// Shares of this size and more have several segments open at a time.
constexpr uint32_t kShareForManyCursors = 64;
constexpr uint32_t kCursors = 2;

// Ages are noted about once a second; this many seconds back exactly, beyond
// that the oldest note stands for all before it.
constexpr size_t kMaxAgeSamples = 4096;

uint64_t SegmentSectors(const SegmentTable& table) {
  return table.geometry().segment_size() / kSectorSize;
}

}  // namespace

bool Health::Set(HealthState state, std::string reason) {
  absl::MutexLock lock(&mutex_);
  std::string& held = reasons_[static_cast<int>(state)];
  if (held == reason) return false;
  held = std::move(reason);
  return true;
}

HealthState Health::state() {
  absl::MutexLock lock(&mutex_);
  for (int i = kStates - 1; i > 0; --i) {
    if (!reasons_[i].empty()) return static_cast<HealthState>(i);
  }
  return HealthState::kRunning;
}

std::string Health::reason() {
  absl::MutexLock lock(&mutex_);
  for (int i = kStates - 1; i > 0; --i) {
    if (!reasons_[i].empty()) return reasons_[i];
  }
  return "";
}

ImageCore::ImageCore(const CacheParts& parts,
                     std::unique_ptr<BackingDevice> backing,
                     const Start& start)
    : parts_(parts),
      id_(start.id),
      name_(start.record.name),
      tag_(start.record.uuid.tag()),
      size_(start.record.size),
      read_only_(start.read_only),
      is_mapped_(parts.device.View(MediaOffset(0), kBlockSize) != nullptr),
      read_only_backing_(start.record.read_only_backing),
      backing_(std::move(backing)),
      settings_(start.record),
      space_(parts.table, start.id, tag_, start.record.share_segments,
             read_only_backing_),
      throttle_(parts.clock, settings_, space_,
                parts.table.geometry().segment_size(), !read_only_backing_),
      allocator_(space_, start.record.share_segments >= kShareForManyCursors
                             ? kCursors
                             : 1),
      payload_(parts.device, parts.table),
      shards_(SegmentSectors(parts.table)),
      log_(parts.device, space_, parts.barrier, tag_, start.log),
      tails_(parts.device, parts.barrier, log_, start.tails_slots,
             start.tails, start.tails_cursor),
      record_cursor_(start.record_cursor),
      record_(start.record),
      record_slots_(start.record_slots),
      proven_(start.tails.committed),
      last_commit_(parts.clock.Now()),
      read_path_(std::make_unique<ReadPath>(*this)),
      write_path_(std::make_unique<WritePath>(*this)),
      around_path_(std::make_unique<AroundPath>(*this)),
      writeback_(std::make_unique<Writeback>(*this)),
      reclaim_(std::make_unique<Reclaim>(*this)),
      carry_(std::make_unique<Carry>(*this)),
      mode_switch_(std::make_unique<ModeSwitch>(*this)) {
  if (read_only_) health_.Set(HealthState::kReadOnly, "opened read-only");
}

ImageCore::~ImageCore() {
  // Its last completions still find everything else alive.
  around_path_->Stop();
  backing_.reset();
}

void ImageCore::Commit(bool end_epoch,
                       absl::AnyInvocable<void(absl::Status)> done) {
  const SequenceNumber wanted = end_epoch ? log_.EndEpoch() : log_.last();
  const absl::Status failed = barrier().status();
  if (!failed.ok() || log_.durable() >= wanted) {
    done(failed);
    return;
  }
  counters_.Add(Counter::kCommits);
  if (end_epoch && Planted(Mutation::kFlushWithoutBarrier)) {
    done(absl::OkStatus());
    return;
  }
  const SequenceNumber covered = log_.last();
  if (Planted(Mutation::kCommitClaimsEarly)) log_.MarkDurable(covered);
  barrier().PersistAsync(
      [this, covered, done = std::move(done)](absl::Status status) mutable {
        if (status.ok()) log_.MarkDurable(covered);
        if (Planted(Mutation::kFlushIgnoresPersistError)) {
          status = absl::OkStatus();
        }
        done(std::move(status));
      });
}

bool ImageCore::CommitStep() {
  const absl::Time now = clock().Now();
  NoteAge(now);
  if (!barrier().status().ok()) {
    health_.Set(HealthState::kFailed,
                std::string(barrier().status().message()));
    write_path_->FailWaiting(barrier().status());
    return false;
  }
  SequenceNumber proven;
  {
    absl::MutexLock lock(&mutex_);
    if (now - last_commit_ < options().commit_interval) return false;
    last_commit_ = now;
    proven = proven_;
  }
  const SequenceNumber durable = log_.durable();
  if (log_.last() > durable) {
    if (commit_in_flight_.exchange(true)) return false;
    Commit(/*end_epoch=*/false, [this](absl::Status) {
      commit_in_flight_ = false;
      Kick();
    });
    return true;
  }
  if (proven > durable) return false;
  // Idle: leave a proof on the media that the last sets were durable, which no
  // later set will give. Without it their loss would look like a torn end.
  const absl::Status stored = tails_.Store(/*clean_stop=*/false);
  if (stored.ok() && tails_.Persist().ok()) {
    absl::MutexLock lock(&mutex_);
    proven_ = durable + 1;
  }
  return true;
}

void ImageCore::NoteAge(absl::Time now) {
  const SequenceNumber last = log_.last();
  const SequenceNumber clean = tails_.dirty_tail().sequence;
  absl::MutexLock lock(&mutex_);
  while (ages_.size() > 1 && ages_[1].last < clean) {
    ages_.erase(ages_.begin());
  }
  if (!ages_.empty() && (now - ages_.back().time < absl::Seconds(1) ||
                         ages_.back().last == last)) {
    return;
  }
  if (ages_.size() == kMaxAgeSamples) ages_.erase(ages_.begin() + 1);
  ages_.push_back({last, now});
}

absl::Duration ImageCore::OldestDirtyAge() {
  const SequenceNumber clean = tails_.dirty_tail().sequence;
  if (log_.last_dirty() < clean) return absl::ZeroDuration();
  return AgeOf(clean);
}

absl::Duration ImageCore::AgeOf(SequenceNumber sequence) {
  const absl::Time now = clock().Now();
  absl::MutexLock lock(&mutex_);
  // It came behind the last note that does not cover it.
  absl::Time since = ages_.empty() ? now : ages_.front().time;
  for (const AgeSample& sample : ages_) {
    if (sample.last >= sequence) break;
    since = sample.time;
  }
  return now - since;
}

void ImageCore::NoteLost(ImageRange range, const absl::Status& why) {
  LOG(ERROR) << "image " << name_ << ": " << range.length
             << " bytes of dirty data at " << range.offset
             << " are lost: " << why;
}

uint64_t ImageCore::LostBytes() {
  uint64_t sectors = 0;
  for (uint32_t i = 0; i < kShardCount; ++i) {
    Shard& shard = shards_[i];
    absl::MutexLock lock(&shard.mutex);
    sectors += shard.index.lost_sectors();
  }
  return sectors * kSectorSize;
}

std::string ImageCore::lasting_reason() {
  absl::MutexLock lock(&mutex_);
  return size_problem_;
}

bool ImageCore::SizeStep() {
  const absl::Time now = clock().Now();
  if (now < next_size_check_) return false;
  next_size_check_ = now + options().size_check_interval;
  absl::Status status = backing_->Refresh();
  const uint64_t grown = backing_->size();
  if (status.ok() && grown > kMaxIndexedSize) {
    status = absl::InvalidArgumentError(
        absl::StrCat(backing_->spec(), ": has grown to ", grown,
                     " bytes, want at most ", kMaxIndexedSize));
  }
  const uint64_t before = size();
  const bool grows = status.ok() && grown > before;
  if (grows && !Planted(Mutation::kSizeBeforeRecord)) {
    status = ChangeRecord([grown](ImageRecord& record) {
      record.size = grown;
      record.backing.size = grown;
      return absl::OkStatus();
    });
  }
  if (grows && status.ok()) {
    size_.store(grown, std::memory_order_release);
    LOG(INFO) << "image " << name_ << ": has grown from " << before << " to "
              << grown << " bytes";
  }
  bool changed = false;
  {
    absl::MutexLock lock(&mutex_);
    changed = size_problem_ != status.message();
    size_problem_ = std::string(status.message());
  }
  if (changed) {
    LOG_IF(ERROR, !status.ok()) << "image " << name_ << ": " << status;
    health_.Set(HealthState::kDegraded, lasting_reason());
  }
  return grows && status.ok();
}

absl::Status ImageCore::ChangeRecord(
    absl::FunctionRef<absl::Status(ImageRecord&)> edit) {
  absl::MutexLock change(&change_mutex_);
  ImageRecord changed = record();
  RETURN_IF_ERROR(edit(changed));
  RETURN_IF_ERROR(StoreSlot(device(), barrier(), record_slots_,
                            record_cursor_, changed));
  RETURN_IF_ERROR(barrier().Persist());
  {
    absl::MutexLock lock(&mutex_);
    record_ = changed;
  }
  settings_.Store(changed);
  Kick();
  return absl::OkStatus();
}

ImageRecord ImageCore::record() {
  absl::MutexLock lock(&mutex_);
  return record_;
}

SlotCursor ImageCore::record_cursor() {
  absl::MutexLock lock(&change_mutex_);
  return record_cursor_;
}

ImageStatus ImageCore::status() {
  const ImageRecord record = this->record();
  ImageStatus status = {
      .name = name_,
      .id = id_,
      .uuid = record.uuid,
      .identity = record.backing,
      .backing = record.backing_spec,
      .size = size_,
      .read_only_backing = record.read_only_backing,
      .mode = record.mode,
      .next_mode = mode_switch_->next_mode().value_or(record.mode),
      .order = record.order,
      .group_in_flight = writeback_->group_in_flight(),
      .backing_consistent = writeback_->backing_consistent(),
      .gc_percent = record.gc_percent,
      .max_dirty = record.max_dirty,
      .max_dirty_age = record.max_dirty_age,
      .writeback_rate_floor = record.writeback_rate_floor,
      .writeback_rate_ceiling = record.writeback_rate_ceiling,
      .sequential_cutoff = record.sequential_cutoff,
      .state = health_.state(),
      .state_reason = health_.reason(),
      .segment_size = table().geometry().segment_size(),
      .cache_segs = space_.share(),
      .cache_used_segs = space_.used(),
      .dirty_bytes = dirty_bytes_,
      .oldest_dirty = OldestDirtyAge(),
      .key_head = log_.head(),
      .dirty_tail = tails_.dirty_tail(),
      .key_tail = tails_.key_tail(),
      .committed = log_.durable() + 1,
      .incarnation = record.incarnation,
      .counters = counters_.Snapshot(),
      .latencies = counters_.Latencies(),
      .replay = replay_,
  };
  if (write_path_->has_waiting() && status.state == HealthState::kRunning) {
    status.state = HealthState::kStalled;
    status.state_reason = gate_.is_closed()
                              ? "writers wait until the mode is changed"
                              : "writers wait for space in the cache";
  }
  status.lost_bytes = LostBytes();
  if (status.lost_bytes > 0 && status.state <= HealthState::kDegraded) {
    if (status.state != HealthState::kDegraded) status.state_reason.clear();
    status.state = HealthState::kDegraded;
    absl::StrAppend(&status.state_reason,
                    status.state_reason.empty() ? "" : "; ", status.lost_bytes,
                    " bytes of dirty data were lost on the cache device; "
                    "reads of them answer an error until overwritten");
  }
  for (uint32_t i = 0; i < kShardCount; ++i) {
    Shard& shard = shards_[i];
    absl::MutexLock lock(&shard.mutex);
    status.cached_bytes += shard.index.payload_sectors() * kSectorSize;
    status.index_entries += shard.index.piece_count();
  }
  return status;
}

}  // namespace pcachefs
