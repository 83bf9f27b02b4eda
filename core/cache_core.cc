#include "core/cache_core.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/around_path.h"
#include "core/carry.h"
#include "core/mode_switch.h"
#include "core/mutation.h"
#include "core/reclaim.h"
#include "core/replay.h"
#include "core/write_path.h"
#include "core/writeback.h"
#include "glog/logging.h"
#include "iobackend/wakeup.h"
#include "meta/key_set.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// How long a worker without work sleeps if nobody kicks it: what was committed
// on the side is written back with this delay.
constexpr absl::Duration kMaintenanceSleep = absl::Milliseconds(100);
constexpr absl::Duration kWritebackSleep = absl::Milliseconds(100);
constexpr absl::Duration kStopFlushWait = absl::Seconds(5);

// Where writes went around the cache a stop makes them durable, as it does those
// in the cache; but it does not hang because a backing device does.
void FlushAroundWrites(ImageCore& core) {
  struct Result {
    absl::Mutex mutex;
    Wakeup ended;
    absl::Status status ABSL_GUARDED_BY(mutex) =
        absl::DeadlineExceededError("no answer");
  };
  if (core.read_only() || !GoesAround(core.settings().mode())) return;
  auto result = std::make_shared<Result>();
  core.around_path().FlushBacking([result](absl::Status status) {
    {
      absl::MutexLock lock(&result->mutex);
      result->status = std::move(status);
    }
    result->ended.Set();
  });
  result->ended.WaitFor(kStopFlushWait);
  absl::MutexLock lock(&result->mutex);
  if (!result->status.ok()) {
    LOG(ERROR) << "image " << core.name()
               << ": its backing device was not flushed: " << result->status;
  }
}

}  // namespace

CacheCore::CacheCore(CacheDevice& device, const CacheOptions& options,
                     Clock& clock, const DeviceRecords& records)
    : device_(device),
      options_(options),
      clock_(clock),
      uuid_(records.superblock.uuid),
      barrier_(device),
      table_(device, records.geometry, barrier_),
      parts_{device_, barrier_, table_, clock_, options_},
      superblock_(records.superblock),
      superblock_cursor_(records.superblock_cursor),
      superblock_needs_copy_(records.superblock_needs_copy),
      info_(records.info),
      info_cursor_(records.info_cursor) {
  if (options_.start_threads && !device_.persist_is_cheap()) {
    committer_ = std::thread([this] {
      while (barrier_.WaitForWork()) barrier_.Step();
    });
  }
}

CacheCore::~CacheCore() {
  // Nobody else is here any more; answers are given without a lock.
  std::map<ImageId, Served> served;
  {
    absl::MutexLock lock(&mutex_);
    served.swap(served_);
  }
  for (auto& [id, ending] : served) {
    ending.StopThreads();
    AnswerWaiting(ending.image->core());
  }
  barrier_.Stop();
  if (committer_.joinable()) committer_.join();
  barrier_.Step();  // answers those who came last
  for (auto& [id, ending] : served) ending.image.reset();
}

CacheCore::Turn::Turn(CacheCore& core) : core_(core) {
  absl::MutexLock lock(&core_.mutex_);
  core_.mutex_.Await(absl::Condition(
      +[](CacheCore* core) ABSL_EXCLUSIVE_LOCKS_REQUIRED(core->mutex_) {
        return !core->has_turn_;
      },
      &core_));
  core_.has_turn_ = true;
}

CacheCore::Turn::~Turn() {
  absl::MutexLock lock(&core_.mutex_);
  core_.has_turn_ = false;
}

CacheCore::Look::Look(CacheCore& core) : core_(core) {
  absl::MutexLock lock(&core_.mutex_);
  for (auto& [id, served] : core_.served_) {
    if (served.is_leaving) continue;
    ++served.users;
    images_.push_back(served.image.get());
  }
}

CacheCore::Look::~Look() {
  absl::MutexLock lock(&core_.mutex_);
  for (CachedImage* image : images_) --core_.served_.at(image->id()).users;
}

void CacheCore::Served::StopThreads() {
  if (maintenance != nullptr) maintenance->Stop();
  if (writeback != nullptr) writeback->Stop();
}

absl::Status CacheCore::Load() {
  const Turn turn(*this);
  std::map<ImageId, KnownImage> known;
  ASSIGN_OR_RETURN(known, ReadImageTable(device_, geometry(), &vacant_));
  RETURN_IF_ERROR(table_.Load());
  RETURN_IF_ERROR(CheckOwners(known, table_));
  // What was found may still be in the page cache only; stores that follow
  // count on it.
  if (!Planted(Mutation::kStartTrustsPageCache)) {
    RETURN_IF_ERROR(barrier_.Persist());
  }
  RETURN_IF_ERROR(table_.FreeOrphans([&known](ImageId id, ImageTag tag) {
    const auto it = known.find(id);
    return it != known.end() && it->second.record.uuid.tag() == tag;
  }));
  {
    absl::MutexLock lock(&mutex_);
    known_ = std::move(known);
  }
  ++info_.start_count;
  RETURN_IF_ERROR(StoreInfo(/*clean_stop=*/false));
  RETURN_IF_ERROR(barrier_.Persist());
  if (superblock_needs_copy_) RETURN_IF_ERROR(StoreSuperblock());
  return GrowToDevice().status();
}

CachedImage* CacheCore::Serve(std::unique_ptr<ImageCore> core) {
  const ImageId id = core->id();
  ImageCore* raw = core.get();
  Served served;
  raw->mode_switch().BeginService();
  served.image = std::make_unique<CachedImage>(std::move(core));
  if (options_.start_threads) {
    served.maintenance = std::make_unique<BackgroundWorker>(
        [raw] {
          const bool committed = raw->CommitStep();
          const bool reclaimed =
              raw->reclaim().Step() || raw->carry().Step();
          const bool served = raw->write_path().RunWaiting();
          const bool copied = raw->table().StoreCopies();
          return committed || reclaimed || served || copied;
        },
        kMaintenanceSleep);
    served.writeback = std::make_unique<BackgroundWorker>(
        [raw] {
          const bool grown = raw->SizeStep();
          const bool switched = raw->mode_switch().Step();
          return raw->writeback().Step() || grown || switched;
        },
        kWritebackSleep);
    raw->set_kick([maintenance = served.maintenance.get(),
                   writeback = served.writeback.get()] {
      maintenance->Kick();
      writeback->Kick();
    });
    served.maintenance->Start();
    served.writeback->Start();
  }
  CachedImage* image = served.image.get();
  absl::MutexLock lock(&mutex_);
  served_.emplace(id, std::move(served));
  return image;
}

absl::Status CacheCore::CheckOpen() {
  absl::MutexLock lock(&mutex_);
  return closed_ ? absl::UnavailableError("the cache is being closed")
                 : absl::OkStatus();
}

absl::Status CacheCore::Close() {
  {
    absl::MutexLock lock(&mutex_);
    is_closing_ = true;
  }
  const Turn turn(*this);
  std::vector<Served*> all;
  {
    absl::MutexLock lock(&mutex_);
    if (closed_) return absl::OkStatus();
    closed_ = true;
    for (auto& [id, served] : served_) all.push_back(&served);
  }
  absl::Status status;
  for (Served* served : all) {
    served->StopThreads();
    status.Update(CloseImage(served->image->core()));
  }
  while (status.ok() && table_.StoreCopies()) {
  }
  status.Update(StoreInfo(/*clean_stop=*/true));
  status.Update(barrier_.Persist());
  return status;
}

void CacheCore::AnswerWaiting(ImageCore& core) {
  const absl::Status closing =
      absl::UnavailableError("the cache is being closed");
  core.mode_switch().Abandon(closing);
  core.write_path().FailWaiting(closing);
  core.writeback().FailDrains(closing);
}

absl::Status CacheCore::CloseImage(ImageCore& core) {
  core.writeback().Stop();
  AnswerWaiting(core);
  if (options_.start_threads) FlushAroundWrites(core);
  // A fill may come after its answer: key_head must not move any more.
  core.log().Close();
  // What is in flight to the backing device may end or not: dirty_tail does not
  // move any more, so it is written again.
  const SequenceNumber last = core.log().last();
  RETURN_IF_ERROR(barrier_.Persist());
  core.log().MarkDurable(last);
  RETURN_IF_ERROR(core.tails().Store(/*clean_stop=*/true));
  return barrier_.Persist();
}

absl::Status CacheCore::StoreInfo(bool clean_stop) {
  info_.clean_stop = clean_stop;
  return StoreSlot(device_, barrier_,
                   {geometry().cache_info(0), geometry().cache_info(1)},
                   info_cursor_, info_);
}

std::vector<ImageRecord> CacheCore::KnownImages() {
  std::map<ImageId, ImageRecord> records;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [id, known] : known_) records[id] = known.record;
  }
  const Look look(*this);
  for (CachedImage* image : look.images()) {
    records[image->id()] = image->core().record();
  }
  std::vector<ImageRecord> list;
  for (auto& [id, record] : records) list.push_back(std::move(record));
  return list;
}

absl::StatusOr<ImageId> CacheCore::FindKnown(const std::string& name) {
  absl::MutexLock lock(&mutex_);
  for (const auto& [id, known] : known_) {
    if (known.record.name == name) return id;
  }
  return absl::NotFoundError(absl::StrCat("no image '", name, "'"));
}

KnownImage CacheCore::GetKnown(ImageId id) {
  absl::MutexLock lock(&mutex_);
  return known_.at(id);
}

void CacheCore::SetKnown(ImageId id, const KnownImage& known) {
  absl::MutexLock lock(&mutex_);
  known_[id] = known;
}

uint64_t CacheCore::unassigned_bytes() {
  return uint64_t{UnassignedSegments()} * geometry().segment_size();
}

std::vector<CachedImage*> CacheCore::images() {
  return Look(*this).images();
}

CacheStatus CacheCore::status() {
  CacheStatus status = {
      .path = device_.name(),
      .uuid = uuid_,
      .segment_size = geometry().segment_size(),
      .segments = geometry().segment_count(),
      .segments_used = geometry().segment_count() - table_.free_count(),
      .is_volatile = device_.is_volatile(),
  };
  const absl::Status failed = barrier_.status();
  if (!failed.ok()) {
    status.state = HealthState::kFailed;
    status.state_reason = std::string(failed.message());
  }
  const Look look(*this);
  for (CachedImage* image : look.images()) {
    status.images.push_back(image->status());
  }
  absl::MutexLock lock(&mutex_);
  for (const auto& [id, known] : known_) {
    if (served_.contains(id)) continue;
    const ImageRecord& record = known.record;
    const bool is_detached = record.state == ImageState::kDetached;
    status.absent.push_back({.name = record.name,
                             .id = id,
                             .backing = record.backing_spec,
                             .size = record.size,
                             .mode = record.mode,
                             .cache_segs = record.share_segments,
                             .is_detached = is_detached,
                             .reason = is_detached ? "was detached"
                                                   : "is not attached"});
  }
  return status;
}

bool CacheCore::Step() {
  bool worked = barrier_.Step();
  worked |= table_.StoreCopies();
  const Look look(*this);
  for (CachedImage* image : look.images()) {
    ImageCore& core = image->core();
    worked |= core.CommitStep();
    worked |= core.SizeStep();
    worked |= core.mode_switch().Step();
    worked |= core.writeback().Step();
    worked |= core.reclaim().Step() || core.carry().Step();
    worked |= core.write_path().RunWaiting();
  }
  return worked;
}

}  // namespace pcachefs
