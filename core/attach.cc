// Attach: from a backing device to an image in service. Members of CacheCore.

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/cache_core.h"
#include "core/mutation.h"
#include "core/replay.h"
#include "core/writeback.h"
#include "glog/logging.h"
#include "meta/key_set.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

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

absl::Status CheckSize(const std::string& name, uint64_t size) {
  if (size <= kMaxIndexedSize) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("image ", name, ": got ", size, " bytes, want at most ",
                   kMaxIndexedSize));
}

}  // namespace

absl::StatusOr<CachedImage*> CacheCore::Attach(
    const std::string& name, std::unique_ptr<BackingDevice> backing,
    const ImageOptions& options) {
  RETURN_IF_ERROR(options.Validate());
  RETURN_IF_ERROR(ValidateImageName(name));
  const Turn turn(*this);
  RETURN_IF_ERROR(CheckOpen());
  RETURN_IF_ERROR(CheckNotServed(name, *backing, options));
  ASSIGN_OR_RETURN(const ImageId id, FindOrCreate(name, *backing, options));
  ASSIGN_OR_RETURN(std::unique_ptr<ImageCore> core,
                   Replay(id, std::move(backing), options));
  return Serve(std::move(core));
}

absl::Status CacheCore::CheckNotServed(const std::string& name,
                                       const BackingDevice& backing,
                                       const ImageOptions& options) {
  absl::MutexLock lock(&mutex_);
  bool is_only_read = options.read_only_backing;
  for (const auto& [id, served] : served_) {
    if (served.image->name() == name) {
      return absl::AlreadyExistsError(
          absl::StrCat("image ", name, ": already attached"));
    }
  }
  for (const auto& [id, known] : known_) {
    if (known.record.name == name && !options.replace_backing) {
      is_only_read |= known.record.read_only_backing;
    }
  }
  for (const auto& [id, known] : known_) {
    const BackingIdentity& other = known.record.backing;
    if (is_only_read && known.record.read_only_backing) continue;
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
  const absl::StatusOr<ImageId> id = FindKnown(name);
  if (!id.ok()) return Create(name, backing, options);
  const KnownImage known = GetKnown(*id);
  const BackingIdentity& want = known.record.backing;
  const BackingIdentity& got = backing.identity();
  // It may have grown; what it has lost may have been in use.
  const bool is_same = want.kind == got.kind && want.text == got.text;
  const bool may_replace =
      options.replace_backing && got.size == known.record.size;
  if (options.replace_backing && known.record.read_only_backing && is_same) {
    return absl::FailedPreconditionError(absl::StrCat(
        "image ", name, ": ", backing.spec(), " is its read-only backing "
        "device, on which other images may stand; write to a copy of it"));
  }
  if (!may_replace && (!is_same || got.size < known.record.size)) {
    return WrongBacking(known.record, backing);
  }
  if (options.read_only_backing && !known.record.read_only_backing &&
      !options.replace_backing) {
    return absl::FailedPreconditionError(absl::StrCat(
        "image ", name, ": read_only_backing: the cache knows the image as one "
        "whose backing device is written to; detach it first"));
  }
  RETURN_IF_ERROR(CheckSize(name, backing.size()));
  return *id;
}

absl::StatusOr<ImageId> CacheCore::Create(const std::string& name,
                                          const BackingDevice& backing,
                                          const ImageOptions& options) {
  RETURN_IF_ERROR(CheckSize(name, backing.size()));
  ASSIGN_OR_RETURN(const uint32_t share, ShareFor(name, options));
  if (options.read_only_backing && share < kMinShareToCarry) {
    return absl::InvalidArgumentError(absl::StrCat(
        "image ", name, ": share of the cache: got ", share, " segments of ",
        geometry().segment_size(), " bytes, want at least ", kMinShareToCarry,
        " for a read-only backing device"));
  }
  ImageId id(0);
  {
    absl::MutexLock lock(&mutex_);
    while (known_.contains(id)) id = ImageId(id.value() + 1);
  }
  if (id.value() >= geometry().image_slots()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("image ", name, ": the cache has no room for more than ",
                     geometry().image_slots(), " images"));
  }
  const ImageRecord record = {
      .state = ImageState::kAttached,
      .mode = options.mode,
      .order = options.order,
      .gc_percent = static_cast<uint8_t>(
          options.gc_percent < 0 ? info_.gc_percent : options.gc_percent),
      .read_only_backing = options.read_only_backing,
      // What was written there never makes room for others.
      .has_default_share = !options.read_only_backing &&
                           (options.cache_size == 0 || options.is_default_size),
      .uuid = NewUuid(),
      .size = backing.size(),
      .share_segments = share,
      .create_time =
          static_cast<uint64_t>(absl::ToUnixSeconds(clock_.WallNow())),
      .name = name,
      .backing = backing.identity(),
      .backing_spec = backing.spec(),
      .sequential_cutoff = kDefaultSequentialCutoff};

  RETURN_IF_ERROR(StoreNewImage(id, record));
  return id;
}

absl::Status CacheCore::StoreNewImage(ImageId id, const ImageRecord& record) {
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
  const absl::Status stored =
      StoreSlot(device_, barrier_, TailsSlots(id), tails_cursor,
                LogTails{.image = record.uuid.tag(),
                         .key_tail = start,
                         .dirty_tail = start,
                         .key_head = start,
                         .committed = SequenceNumber(1)});
  if (!stored.ok()) {
    // From here on the record may be on the media and need it.
    RETURN_IF_ERROR(FreeSegmentsOf(id, record.uuid.tag()));
    return stored;
  }
  if (!Planted(Mutation::kRecordBeforeLog)) {
    RETURN_IF_ERROR(barrier_.Persist());
  }
  KnownImage known = {.record = record};
  if (const auto it = vacant_.find(id); it != vacant_.end()) {
    known.cursor = it->second;
  }
  RETURN_IF_ERROR(StoreSlot(device_, barrier_, RecordSlots(id), known.cursor,
                            record));
  RETURN_IF_ERROR(barrier_.Persist());
  vacant_.erase(id);
  SetKnown(id, known);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ImageCore>> CacheCore::Replay(
    ImageId id, std::unique_ptr<BackingDevice> backing,
    const ImageOptions& options) {
  const absl::Time began = clock_.Now();
  KnownImage known = GetKnown(id);
  ASSIGN_OR_RETURN(SlotChoice<LogTails> tails,
                   LoadSlots<LogTails>(device_, TailsSlots(id)));
  if (tails.value.image != known.record.uuid.tag()) {
    return absl::DataLossError(absl::StrCat(
        "image ", known.record.name, ": log tails are another image's: got ",
        tails.value.image.value(), ", want ",
        known.record.uuid.tag().value()));
  }
  ASSIGN_OR_RETURN(const LogEnd end, FindLogEnd(device_, table_, known.record,
                                                tails.value));
  // What was dropped must not come back, neither at the head nor, by its
  // incarnation, behind what is appended from now on.
  const std::array<std::byte, kKeySetHeaderSize> blank = {};
  RETURN_IF_ERROR(device_.Write(
      geometry().position({end.head.segment, end.head.offset}), blank));
  if (backing->size() != known.record.size) {
    LOG(INFO) << "image " << known.record.name << ": has grown from "
              << known.record.size << " to " << backing->size() << " bytes";
  }
  if (options.replace_backing && known.record.read_only_backing) {
    // A copy takes the golden image's place. What was carried is not in the order
    // in which it was written.
    known.record.read_only_backing = false;
    known.record.mixed_epochs = true;
  }
  known.record.size = backing->size();
  known.record.backing = backing->identity();
  known.record.backing.size = backing->size();
  known.record.state = ImageState::kAttached;
  known.record.backing_spec = backing->spec();
  known.record.incarnation = Incarnation(
      std::max(known.record.incarnation, end.incarnation).value() +
      (Planted(Mutation::kOldIncarnation) ? 0 : 1));
  RETURN_IF_ERROR(StoreSlot(device_, barrier_, RecordSlots(id), known.cursor,
                            known.record));
  SetKnown(id, known);
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
          .read_only = options.read_only});
  ImageStatus::Replay found = {.dropped_key_sets = end.dropped_key_sets,
                               .verified_bytes = end.verified_bytes};
  absl::Status replayed = ReplayLog(*core, found);
  if (!replayed.ok()) {
    // Nothing of it may be there when it is tried again.
    core.reset();
    table_.Forget(table_.OwnedBy(id, known.record.uuid.tag()));
    return replayed;
  }
  // A start begins an epoch: what readers find now is what a plain disk would
  // have on its platter, so nothing later may reach the backing device first.
  if (!Planted(Mutation::kStartEndsNoEpoch)) core->log().EndEpoch();
  // What the backing device holds of these epochs is not known to be in order.
  if (known.record.order != WritebackOrder::kStrict ||
      known.record.mixed_epochs) {
    core->writeback().NoteMixed(end.head.sequence);
  }
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

Uuid CacheCore::NewUuid() {
  // Unique is enough, secret it need not be; no source of randomness, so that a
  // simulation can be repeated.
  uint64_t state = uuid_.tag().value() ^ info_.start_count ^
                   static_cast<uint64_t>(
                       absl::ToUnixNanos(clock_.WallNow()));
  const std::vector<ImageRecord> images = KnownImages();
  Uuid uuid;
  bool used = true;
  while (used || uuid.is_nil()) {
    for (size_t at : {0, 8}) {
      state = Mix(state + images.size() + 1);
      std::memcpy(uuid.bytes.data() + at, &state, sizeof(state));
    }
    // Version 4, variant 1, as other tools expect of a UUID.
    uuid.bytes[6] = (uuid.bytes[6] & 0x0f) | 0x40;
    uuid.bytes[8] = (uuid.bytes[8] & 0x3f) | 0x80;
    used = std::any_of(
        images.begin(), images.end(), [&](const ImageRecord& image) {
          return image.uuid.tag() == uuid.tag();
        });
  }
  return uuid;
}

}  // namespace pcachefs
