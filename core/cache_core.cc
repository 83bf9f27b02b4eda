#include "core/cache_core.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/reclaim.h"
#include "core/replay.h"
#include "core/write_path.h"
#include "core/writeback.h"
#include "glog/logging.h"
#include "meta/key_set.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// How long a worker without work sleeps if nobody kicks it: what was committed
// on the side is written back with this delay.
constexpr absl::Duration kMaintenanceSleep = absl::Milliseconds(100);
constexpr absl::Duration kWritebackSleep = absl::Milliseconds(100);

// A step of the splitmix64 generator.
uint64_t Mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

absl::Status WrongBacking(const ImageRecord& record,
                          const BackingDevice& backing) {
  const BackingIdentity& got = backing.identity();
  return absl::FailedPreconditionError(absl::StrCat(
      "image ", record.name, ": ", backing.spec(),
      " is not its backing device: got ", Name(got.kind), " ", got.text, " of ",
      got.size, " bytes, want ", Name(record.backing.kind), " ",
      record.backing.text, " of ", record.backing.size, " bytes (recorded as ",
      record.backing_spec, "); name the right device"));
}

}  // namespace

CacheCore::CacheCore(CacheDevice& device, const CacheOptions& options,
                     Clock& clock, const DeviceRecords& records)
    : device_(device),
      options_(options),
      clock_(clock),
      superblock_(records.superblock),
      geometry_(records.geometry),
      barrier_(device),
      table_(device, geometry_, barrier_),
      parts_{device_, barrier_, table_, clock_, options_},
      info_(records.info),
      info_cursor_(records.info_cursor) {
  if (options_.start_threads && !device_.persist_is_cheap()) {
    committer_ = std::thread([this] {
      while (barrier_.WaitForWork()) barrier_.Step();
    });
  }
}

CacheCore::~CacheCore() {
  absl::MutexLock lock(&mutex_);
  for (auto& [id, served] : served_) {
    if (served.maintenance != nullptr) served.maintenance->Stop();
    if (served.writeback != nullptr) served.writeback->Stop();
    served.image->core().write_path().FailWaiting(
        absl::UnavailableError("the cache is being closed"));
  }
  barrier_.Stop();
  if (committer_.joinable()) committer_.join();
  barrier_.Step();  // answers those who came last
  for (auto& [id, served] : served_) served.image.reset();
}

absl::Status CacheCore::Load() {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(known_, ReadImageTable(device_, geometry_));
  RETURN_IF_ERROR(table_.Load());
  // What was found may still be in the page cache only; stores that follow
  // count on it.
  RETURN_IF_ERROR(barrier_.Persist());
  RETURN_IF_ERROR(table_.FreeOrphans(
      [this](ImageId id, ImageTag tag) ABSL_NO_THREAD_SAFETY_ANALYSIS {
        const auto it = known_.find(id);
        return it != known_.end() && it->second.record.uuid.tag() == tag;
      }));
  ++info_.start_count;
  RETURN_IF_ERROR(StoreInfo(/*clean_stop=*/false));
  return barrier_.Persist();
}

absl::StatusOr<CachedImage*> CacheCore::Attach(
    const std::string& name, std::unique_ptr<BackingDevice> backing,
    const ImageOptions& options) {
  RETURN_IF_ERROR(options.Validate());
  RETURN_IF_ERROR(ValidateImageName(name));
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(CheckNotServed(name, *backing));
  ASSIGN_OR_RETURN(const ImageId id, FindOrCreate(name, *backing, options));
  ASSIGN_OR_RETURN(std::unique_ptr<ImageCore> core,
                   Replay(id, std::move(backing), options.read_only));
  return Serve(std::move(core));
}

absl::Status CacheCore::CheckNotServed(const std::string& name,
                                       const BackingDevice& backing) {
  for (const auto& [id, served] : served_) {
    if (served.image->name() == name) {
      return absl::AlreadyExistsError(
          absl::StrCat("image ", name, ": already attached"));
    }
  }
  for (const auto& [id, known] : known_) {
    const BackingIdentity& other = known.record.backing;
    if (known.record.name != name && other.kind == backing.identity().kind &&
        other.text == backing.identity().text) {
      return absl::AlreadyExistsError(absl::StrCat(
          "image ", name, ": ", backing.spec(), " (", other.text,
          ") is the backing device of image ", known.record.name));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ImageId> CacheCore::FindOrCreate(const std::string& name,
                                                const BackingDevice& backing,
                                                const ImageOptions& options) {
  for (const auto& [id, known] : known_) {
    if (known.record.name != name) continue;
    const BackingIdentity& want = known.record.backing;
    if (want != backing.identity()) {
      return WrongBacking(known.record, backing);
    }
    return id;
  }
  return Create(name, backing, options);
}

absl::StatusOr<ImageId> CacheCore::Create(const std::string& name,
                                          const BackingDevice& backing,
                                          const ImageOptions& options) {
  if (backing.size() > kMaxIndexedSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("image ", name, ": got ", backing.size(),
                     " bytes, want at most ", kMaxIndexedSize));
  }
  const uint32_t unassigned = UnassignedSegments();
  const uint64_t share =
      options.cache_size == 0
          ? unassigned
          : DivideRoundingUp(options.cache_size, geometry_.segment_size());
  if (share > unassigned || share < kMinShare) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "image ", name, ": share of the cache: got ", share, " segments of ",
        geometry_.segment_size(), " bytes, want at least ", kMinShare, " of ",
        unassigned, " that no image's share takes"));
  }
  ImageId id(0);
  while (known_.contains(id)) id = ImageId(id.value() + 1);
  if (id.value() >= geometry_.image_slots()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("image ", name, ": the cache has no room for more than ",
                     geometry_.image_slots(), " images"));
  }
  const ImageRecord record = {
      .state = ImageState::kAttached,
      .mode = options.mode,
      .order = options.order,
      .gc_percent = static_cast<uint8_t>(
          options.gc_percent < 0 ? info_.gc_percent : options.gc_percent),
      .uuid = NewUuid(),
      .size = backing.size(),
      .share_segments = static_cast<uint32_t>(share),
      .create_time =
          static_cast<uint64_t>(absl::ToUnixSeconds(clock_.WallNow())),
      .name = name,
      .backing = backing.identity(),
      .backing_spec = backing.spec(),
      .sequential_cutoff = kDefaultSequentialCutoff};

  // The log first: an image whose record is there has one.
  ASSIGN_OR_RETURN(const SegmentId log,
                   table_.Allocate(SegmentUse::kLog, id, record.uuid.tag(),
                                   SequenceNumber(1)));
  const LogPosition start = {.segment = log,
                             .generation = table_.segment(log).generation(),
                             .sequence = SequenceNumber(1)};
  const absl::StatusOr<SlotChoice<LogTails>> old =
      LoadSlots<LogTails>(device_, TailsSlots(id));
  SlotCursor tails_cursor =
      old.ok() ? SlotCursor(old->slot, old->update_number) : SlotCursor();
  RETURN_IF_ERROR(StoreSlot(device_, barrier_, TailsSlots(id), tails_cursor,
                            LogTails{.image = record.uuid.tag(),
                                     .key_tail = start,
                                     .dirty_tail = start,
                                     .key_head = start,
                                     .committed = SequenceNumber(1)}));
  RETURN_IF_ERROR(barrier_.Persist());
  KnownImage known = {.record = record};
  RETURN_IF_ERROR(StoreSlot(device_, barrier_, RecordSlots(id), known.cursor,
                            record));
  RETURN_IF_ERROR(barrier_.Persist());
  known_.emplace(id, std::move(known));
  return id;
}

absl::StatusOr<std::unique_ptr<ImageCore>> CacheCore::Replay(
    ImageId id, std::unique_ptr<BackingDevice> backing, bool read_only) {
  const absl::Time began = clock_.Now();
  KnownImage& known = known_.at(id);
  ASSIGN_OR_RETURN(SlotChoice<LogTails> tails,
                   LoadSlots<LogTails>(device_, TailsSlots(id)));
  if (tails.value.image != known.record.uuid.tag()) {
    return absl::DataLossError(absl::StrCat(
        "image ", known.record.name, ": log tails are another image's: got ",
        tails.value.image.value(), ", want ",
        known.record.uuid.tag().value()));
  }
  if (known.record.size != backing->size()) {
    return absl::DataLossError(absl::StrCat(
        "image ", known.record.name, ": image record: size: got ",
        known.record.size, ", want that of its backing device, ",
        backing->size()));
  }
  ASSIGN_OR_RETURN(const LogEnd end, FindLogEnd(device_, table_, known.record,
                                                tails.value));
  // What was dropped must not come back, neither at the head nor, by its
  // incarnation, behind what is appended from now on.
  const std::array<std::byte, kKeySetHeaderSize> blank = {};
  RETURN_IF_ERROR(device_.Write(
      geometry_.position({end.head.segment, end.head.offset}), blank));
  known.record.state = ImageState::kAttached;
  known.record.backing_spec = backing->spec();
  known.record.incarnation = Incarnation(
      std::max(known.record.incarnation, end.incarnation).value() + 1);
  RETURN_IF_ERROR(StoreSlot(device_, barrier_, RecordSlots(id), known.cursor,
                            known.record));
  tails.value.clean_stop = false;
  auto core = std::make_unique<ImageCore>(
      parts_, std::move(backing),
      ImageCore::Start{
          .id = id,
          .record = known.record,
          .record_cursor = known.cursor,
          .record_slots = RecordSlots(id),
          .tails_slots = TailsSlots(id),
          .tails = tails.value,
          .tails_cursor = SlotCursor(tails.slot, tails.update_number),
          .log = {.head = end.head,
                  .incarnation = known.record.incarnation,
                  // Load() made everything durable that was found.
                  .durable = end.head.sequence - 1},
          .read_only = read_only});
  ImageStatus::Replay found = {.dropped_key_sets = end.dropped_key_sets,
                               .verified_bytes = end.verified_bytes};
  RETURN_IF_ERROR(ReplayLog(*core, found));
  // A start begins an epoch: what readers find now is what a plain disk would
  // have on its platter, so nothing later may reach the backing device first.
  core->log().EndEpoch();
  RETURN_IF_ERROR(core->tails().Store(/*clean_stop=*/false));
  RETURN_IF_ERROR(barrier_.Persist());
  found.duration = clock_.Now() - began;
  core->set_replay(found);
  LOG(INFO) << "image " << core->name() << ": replayed " << found.keys
            << " keys in " << found.key_sets << " key sets, "
            << found.stale_keys << " stale, " << found.dropped_key_sets
            << " key sets dropped at the torn end, "
            << core->dirty_bytes() << " bytes dirty, in " << found.duration;
  return core;
}

CachedImage* CacheCore::Serve(std::unique_ptr<ImageCore> core) {
  const ImageId id = core->id();
  Served& served = served_[id];
  ImageCore* raw = core.get();
  served.image = std::make_unique<CachedImage>(std::move(core));
  if (options_.start_threads) {
    served.maintenance = std::make_unique<BackgroundWorker>(
        [raw] {
          const bool committed = raw->CommitStep();
          const bool reclaimed = raw->reclaim().Step();
          const bool served = raw->write_path().RunWaiting();
          return committed || reclaimed || served;
        },
        kMaintenanceSleep);
    served.writeback = std::make_unique<BackgroundWorker>(
        [raw] { return raw->writeback().Step(); }, kWritebackSleep);
    raw->set_kick([maintenance = served.maintenance.get(),
                   writeback = served.writeback.get()] {
      maintenance->Kick();
      writeback->Kick();
    });
    served.maintenance->Start();
    served.writeback->Start();
  }
  return served.image.get();
}

absl::Status CacheCore::Close() {
  absl::MutexLock lock(&mutex_);
  if (closed_) return absl::OkStatus();
  closed_ = true;
  absl::Status status;
  for (auto& [id, served] : served_) {
    if (served.maintenance != nullptr) served.maintenance->Stop();
    if (served.writeback != nullptr) served.writeback->Stop();
    status.Update(CloseImage(served.image->core()));
  }
  status.Update(StoreInfo(/*clean_stop=*/true));
  status.Update(barrier_.Persist());
  return status;
}

absl::Status CacheCore::CloseImage(ImageCore& core) {
  core.write_path().FailWaiting(
      absl::UnavailableError("the cache is being closed"));
  core.writeback().Stop();
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
                   {geometry_.cache_info(0), geometry_.cache_info(1)},
                   info_cursor_, info_);
}

std::vector<ImageRecord> CacheCore::KnownImages() {
  absl::MutexLock lock(&mutex_);
  std::vector<ImageRecord> records;
  for (const auto& [id, known] : known_) records.push_back(known.record);
  return records;
}

uint32_t CacheCore::UnassignedSegments() {
  uint64_t assigned = 0;
  for (const auto& [id, known] : known_) {
    assigned += known.record.share_segments;
  }
  return geometry_.segment_count() -
         std::min<uint64_t>(assigned, geometry_.segment_count());
}

uint64_t CacheCore::unassigned_bytes() {
  absl::MutexLock lock(&mutex_);
  return uint64_t{UnassignedSegments()} * geometry_.segment_size();
}

std::vector<CachedImage*> CacheCore::images() {
  absl::MutexLock lock(&mutex_);
  std::vector<CachedImage*> images;
  for (auto& [id, served] : served_) images.push_back(served.image.get());
  return images;
}

CacheStatus CacheCore::status() {
  CacheStatus status = {
      .path = device_.name(),
      .uuid = superblock_.uuid,
      .segment_size = geometry_.segment_size(),
      .segments = geometry_.segment_count(),
      .segments_used = geometry_.segment_count() - table_.free_count(),
      .is_volatile = device_.is_volatile(),
  };
  const absl::Status failed = barrier_.status();
  if (!failed.ok()) {
    status.state = HealthState::kFailed;
    status.state_reason = std::string(failed.message());
  }
  for (CachedImage* image : images()) status.images.push_back(image->status());
  return status;
}

bool CacheCore::Step() {
  bool worked = barrier_.Step();
  for (CachedImage* image : images()) {
    ImageCore& core = image->core();
    worked |= core.CommitStep();
    worked |= core.writeback().Step();
    worked |= core.reclaim().Step();
    worked |= core.write_path().RunWaiting();
  }
  return worked;
}

Uuid CacheCore::NewUuid() {
  // Unique is enough, secret it need not be; no source of randomness, so that a
  // simulation can be repeated.
  uint64_t state = superblock_.uuid.tag().value() ^ info_.start_count ^
                   static_cast<uint64_t>(
                       absl::ToUnixNanos(clock_.WallNow()));
  Uuid uuid;
  bool used = true;
  while (used || uuid.is_nil()) {
    for (size_t at : {0, 8}) {
      state = Mix(state + known_.size() + 1);
      std::memcpy(uuid.bytes.data() + at, &state, sizeof(state));
    }
    // Version 4, variant 1, as other tools expect of a UUID.
    uuid.bytes[6] = (uuid.bytes[6] & 0x0f) | 0x40;
    uuid.bytes[8] = (uuid.bytes[8] & 0x3f) | 0x80;
    used = std::any_of(known_.begin(), known_.end(), [&](const auto& entry) {
      return entry.second.record.uuid.tag() == uuid.tag();
    });
  }
  return uuid;
}

}  // namespace pcachefs
