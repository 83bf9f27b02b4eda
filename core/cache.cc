#include "core/cache.h"

#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/cache_core.h"
#include "core/slot_store.h"
#include "meta/geometry.h"
#include "meta/records.h"
#include "meta/status_macros.h"

namespace pcachefs {
namespace {

Uuid RandomUuid() {
  std::random_device random;
  Uuid uuid;
  for (size_t at = 0; at < uuid.bytes.size(); at += 4) {
    const uint32_t word = random();
    std::memcpy(uuid.bytes.data() + at, &word, sizeof(word));
  }
  uuid.bytes[6] = (uuid.bytes[6] & 0x0f) | 0x40;
  uuid.bytes[8] = (uuid.bytes[8] & 0x3f) | 0x80;
  return uuid;
}

// Zeroes all metadata, so that nothing of a former life can be taken for ours,
// superblock slots first: a format that is cut short leaves no cache.
absl::Status BlankMetadata(CacheDevice& device, const Geometry& geometry) {
  const std::vector<std::byte> zeros(kMiB);
  RETURN_IF_ERROR(device.Write(
      MediaOffset(0), std::span(zeros).first(2 * kSuperblockSlotSize)));
  RETURN_IF_ERROR(device.Persist());
  for (uint64_t at = 0; at < geometry.metadata_bytes(); at += zeros.size()) {
    const uint64_t length =
        std::min<uint64_t>(zeros.size(), geometry.metadata_bytes() - at);
    RETURN_IF_ERROR(
        device.Write(MediaOffset(at), std::span(zeros).first(length)));
  }
  return absl::OkStatus();
}

// Generation 1 for every segment, in both copies of the table.
absl::Status WriteSegmentTable(CacheDevice& device, const Geometry& geometry) {
  std::vector<std::byte> table(geometry.segment_table_bytes());
  for (int slot : {0, 1}) {
    const auto record = EncodeSlot(
        SegmentRecord{.generation = Generation(1)}, /*update_number=*/1 + slot);
    for (size_t at = 0; at < table.size(); at += record.size()) {
      std::memcpy(table.data() + at, record.data(), record.size());
    }
    RETURN_IF_ERROR(device.Write(geometry.segment_table(slot), table));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Cache::Format(CacheDevice& device, const FormatOptions& options,
                           Clock& clock) {
  ASSIGN_OR_RETURN(const Geometry geometry,
                   Geometry::ForDevice(device.size(), options.segment_size));
  if (options.gc_percent > kMaxGcPercent) {
    return absl::InvalidArgumentError(
        absl::StrCat("gc_percent: got ", options.gc_percent, ", want 0 to ",
                     kMaxGcPercent));
  }
  RETURN_IF_ERROR(BlankMetadata(device, geometry));
  RETURN_IF_ERROR(WriteSegmentTable(device, geometry));
  Barrier barrier(device);
  SlotCursor info_cursor;
  RETURN_IF_ERROR(StoreSlot(
      device, barrier, {geometry.cache_info(0), geometry.cache_info(1)},
      info_cursor,
      CacheInfo{.clean_stop = true,
                .gc_percent = options.gc_percent,
                .label = options.label}));
  RETURN_IF_ERROR(barrier.Persist());
  // Last, when all that it stands for is durable; both slots, since one alone
  // would be a single copy for ever.
  const Superblock superblock = {
      .uuid = options.uuid.is_nil() ? RandomUuid() : options.uuid,
      .geometry = geometry.stored(),
      .format_time =
          static_cast<uint64_t>(absl::ToUnixSeconds(clock.WallNow()))};
  SlotCursor superblock_cursor;
  for (int copy = 0; copy < 2; ++copy) {
    RETURN_IF_ERROR(StoreSlot(device, barrier,
                              {SuperblockOffset(0), SuperblockOffset(1)},
                              superblock_cursor, superblock));
    RETURN_IF_ERROR(barrier.Persist());
  }
  return absl::OkStatus();
}

absl::Status Cache::Inspect(CacheDevice& device) {
  return ReadDeviceRecords(device).status();
}

absl::StatusOr<std::unique_ptr<Cache>> Cache::Open(CacheDevice& device,
                                                   const CacheOptions& options,
                                                   Clock& clock) {
  RETURN_IF_ERROR(options.Validate());
  ASSIGN_OR_RETURN(const DeviceRecords records, ReadDeviceRecords(device));
  auto core = std::make_unique<CacheCore>(device, options, clock, records);
  RETURN_IF_ERROR(core->Load());
  return std::unique_ptr<Cache>(new Cache(std::move(core)));
}

Cache::Cache(std::unique_ptr<CacheCore> core) : core_(std::move(core)) {}

Cache::~Cache() = default;

std::vector<ImageRecord> Cache::KnownImages() const {
  return core_->KnownImages();
}

absl::StatusOr<CachedImage*> Cache::Attach(
    const std::string& name, std::unique_ptr<BackingDevice> backing,
    const ImageOptions& options) {
  return core_->Attach(name, std::move(backing), options);
}

absl::Status Cache::Detach(const std::string& name, DetachKind kind) {
  return core_->Detach(name, kind);
}

absl::Status Cache::SetShare(const std::string& name, uint64_t bytes) {
  return core_->SetShare(name, bytes);
}

absl::StatusOr<uint32_t> Cache::Grow() { return core_->Grow(); }

uint64_t Cache::unassigned_bytes() const { return core_->unassigned_bytes(); }

CachedImage* Cache::Find(absl::string_view name) {
  for (CachedImage* image : core_->images()) {
    if (image->name() == name) return image;
  }
  return nullptr;
}

std::vector<CachedImage*> Cache::images() { return core_->images(); }

absl::Status Cache::Close() { return core_->Close(); }

CacheStatus Cache::status() { return core_->status(); }

bool Cache::Step() { return core_->Step(); }

}  // namespace pcachefs
