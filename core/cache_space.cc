// Who may use how much of the cache device, and a cache device that grows.
// Members of CacheCore.

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/cache_core.h"
#include "core/image_core.h"
#include "core/image_space.h"
#include "core/mutation.h"
#include "glog/logging.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

// How long a new image waits for the others to make room: half a minute.
constexpr absl::Duration kPause = absl::Milliseconds(10);
constexpr int kPatience = 3000;

}  // namespace

absl::Status NoRoomForShare(const std::string& name, uint64_t share,
                            uint64_t available, uint64_t segment_size,
                            uint64_t least) {
  return absl::ResourceExhaustedError(absl::StrCat(
      "image ", name, ": share of the cache: got ", share, " segments of ",
      segment_size, " bytes, want at least ", least, " and at most ",
      available, ", which no other image's share takes; make another one's "
      "smaller with: pcachectl set MOUNT NAME image_cache_size=SIZE"));
}

// An image that became smaller counts with what it still uses, so that nobody
// is promised what is not there yet.
std::map<ImageId, uint32_t> CacheCore::SegmentsByImage() {
  std::map<ImageId, uint32_t> used = table_.UsedByOwner();
  std::map<ImageId, uint32_t> shares;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [id, known] : known_) {
      shares[id] = known.record.share_segments;
    }
  }
  const Look look(*this);
  for (CachedImage* image : look.images()) {
    shares[image->id()] = image->core().space().share();
  }
  for (auto& [id, share] : shares) share = std::max(share, used[id]);
  return shares;
}

uint32_t CacheCore::UnassignedSegments() {
  uint64_t assigned = 0;
  for (const auto& [id, segments] : SegmentsByImage()) assigned += segments;
  const uint32_t all = geometry().segment_count();
  return all - std::min<uint64_t>(assigned, all);
}

std::vector<ImageId> CacheCore::ImagesWithDefaultShare() {
  std::map<ImageId, bool> is_default;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [id, known] : known_) {
      is_default[id] = known.record.has_default_share;
    }
  }
  const Look look(*this);
  for (CachedImage* image : look.images()) {
    is_default[image->id()] = image->core().record().has_default_share;
  }
  std::vector<ImageId> ids;
  for (const auto& [id, yes] : is_default) {
    if (yes) ids.push_back(id);
  }
  return ids;
}

absl::StatusOr<uint32_t> CacheCore::ShareFor(const std::string& name,
                                             const ImageOptions& options) {
  uint64_t wanted =
      DivideRoundingUp(options.cache_size, geometry().segment_size());
  if (options.cache_size == 0) {
    // What is free, and no less than those get who have not asked either.
    const std::vector<ImageId> others = ImagesWithDefaultShare();
    const std::map<ImageId, uint32_t> segments = SegmentsByImage();
    uint64_t together = UnassignedSegments();
    wanted = together;
    for (const ImageId id : others) together += segments.at(id);
    wanted = std::max(wanted, together / (others.size() + 1));
  }
  if (wanted < kMinShare) {
    return NoRoomForShare(name, wanted, UnassignedSegments(),
                          geometry().segment_size());
  }
  if (UnassignedSegments() < wanted) {
    RETURN_IF_ERROR(MakeRoom(name, wanted));
  }
  // Reclaim gives it back; what is dirty is written back first.
  for (int i = 0; UnassignedSegments() < wanted; ++i) {
    if (i == kPatience) {
      return absl::UnavailableError(absl::StrCat(
          "image ", name, ": other images make room for it, but have not "
          "written back enough yet; try again later"));
    }
    if (!options_.start_threads) Step();
    if (options_.start_threads) absl::SleepFor(kPause);
    absl::MutexLock lock(&mutex_);
    if (is_closing_) {
      return absl::UnavailableError("the cache is being closed");
    }
  }
  return static_cast<uint32_t>(wanted);
}

absl::Status CacheCore::MakeRoom(const std::string& name, uint64_t wanted) {
  const std::vector<ImageId> others = ImagesWithDefaultShare();
  const std::map<ImageId, uint32_t> segments = SegmentsByImage();
  uint64_t available = UnassignedSegments();
  for (const ImageId id : others) available += segments.at(id);
  const uint64_t kept = others.size() * kMinShare;
  if (others.empty() || available < wanted + kept) {
    return NoRoomForShare(name, wanted,
                          others.empty() ? available
                                         : available - std::min(available,
                                                                kept),
                          geometry().segment_size());
  }
  const auto each = static_cast<uint32_t>((available - wanted) / others.size());
  for (const ImageId id : others) {
    if (ShareOf(id) <= each) continue;
    RETURN_IF_ERROR(StoreShare(id, each, /*is_default=*/true));
    LOG(INFO) << "image " << GetKnown(id).record.name << ": makes room for "
              << name << ", share is now " << each << " segments";
  }
  return absl::OkStatus();
}

uint32_t CacheCore::ShareOf(ImageId id) {
  {
    const Look look(*this);
    for (CachedImage* image : look.images()) {
      if (image->id() == id) return image->core().space().share();
    }
  }
  return GetKnown(id).record.share_segments;
}

absl::Status CacheCore::SetShare(const std::string& name, uint64_t bytes) {
  const Turn turn(*this);
  RETURN_IF_ERROR(CheckOpen());
  ASSIGN_OR_RETURN(const ImageId id, FindKnown(name));
  const uint64_t share = DivideRoundingUp(bytes, geometry().segment_size());
  const uint64_t available =
      uint64_t{UnassignedSegments()} + SegmentsByImage()[id];
  const uint32_t least =
      GetKnown(id).record.read_only_backing ? kMinShareToCarry : kMinShare;
  if (share < least || (share > ShareOf(id) && share > available)) {
    return NoRoomForShare(name, share, available, geometry().segment_size(),
                          least);
  }
  if (GetKnown(id).record.read_only_backing) {
    // What it holds never leaves: it must still be able to be carried.
    const uint64_t needed =
        uint64_t{table_.UsedByOwner()[id]} + kCarryReserve + kLogReserve;
    if (share < ShareOf(id) && share < needed) {
      return NoRoomForShare(name, share, available, geometry().segment_size(),
                            needed);
    }
  }
  return StoreShare(id, static_cast<uint32_t>(share), /*is_default=*/false);
}

// Durable before it counts. A start may find more in use than the share allows,
// when it became smaller: that is given back as it is reclaimed.
absl::Status CacheCore::StoreShare(ImageId id, uint32_t share,
                                   bool is_default) {
  CachedImage* image = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    const auto it = served_.find(id);
    if (it != served_.end()) image = it->second.image.get();
  }
  if (image == nullptr) {
    KnownImage known = GetKnown(id);
    known.record.share_segments = share;
    known.record.has_default_share = is_default;
    RETURN_IF_ERROR(StoreSlot(device_, barrier_, RecordSlots(id),
                              known.cursor, known.record));
    SetKnown(id, known);
    return barrier_.Persist();
  }
  ImageCore& core = image->core();
  RETURN_IF_ERROR(core.ChangeRecord([&](ImageRecord& record) {
    record.share_segments = share;
    record.has_default_share = is_default;
    return absl::OkStatus();
  }));
  core.space().set_share(share);
  core.Kick();
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> CacheCore::Grow() {
  const Turn turn(*this);
  RETURN_IF_ERROR(CheckOpen());
  RETURN_IF_ERROR(device_.Refresh());
  return GrowToDevice();
}

// Power may go at any time: until the superblock tells of the new segments
// nothing names them, and their records, durable before it, say that they are
// free.
absl::StatusOr<uint32_t> CacheCore::GrowToDevice() {
  const uint32_t old_count = geometry().segment_count();
  if (device_.size() <= geometry().device_size()) return 0;
  ASSIGN_OR_RETURN(const Geometry grown, geometry().Grown(device_.size()));
  if (grown.segment_count() == old_count) return 0;
  RETURN_IF_ERROR(table_.StoreNewRecords(grown));
  if (!Planted(Mutation::kSuperblockBeforeSegments)) {
    RETURN_IF_ERROR(barrier_.Persist());
  }
  // Both slots: one alone would be a single copy for ever. Once the first one
  // may be there, nothing but growing on is right.
  superblock_.geometry = grown.stored();
  for (int copy = 0; copy < 2; ++copy) {
    const absl::Status stored = StoreSuperblock();
    if (stored.ok()) continue;
    barrier_.Poison(stored);
    return stored;
  }
  table_.Grow(grown);
  const uint32_t added = grown.segment_count() - old_count;
  LOG(INFO) << "cache " << device_.name() << ": has grown by " << added
            << " segments to " << grown.segment_count();
  return added;
}

absl::Status CacheCore::StoreSuperblock() {
  RETURN_IF_ERROR(StoreSlot(device_, barrier_,
                            {SuperblockOffset(0), SuperblockOffset(1)},
                            superblock_cursor_, superblock_));
  return barrier_.Persist();
}

}  // namespace pcachefs
