// The fixed records of the on-media format (docs/on_media_format.md sections
// 2 to 7) as values, with their encoders and parsers.
//
// Every record type T here has
//   static constexpr uint16_t kType, size_t kSize, const char kName[];
//   void EncodeBody(std::span<std::byte> record) const;   // kSize bytes,
//   zeroed static absl::StatusOr<T> DecodeBody(std::span<const std::byte>
//   record);
// and goes through meta/slot_pair.h, which adds header and CRC and chooses
// between the two slots. DecodeBody treats every number as hostile: what it
// returns is within the bounds that the format gives. Pure; thread-safe.

#ifndef PCACHEFS_META_RECORDS_H_
#define PCACHEFS_META_RECORDS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "meta/geometry.h"
#include "meta/types.h"

namespace pcachefs {

struct Superblock {
  static constexpr uint16_t kType = 1;
  static constexpr size_t kSize = 512;
  static constexpr char kName[] = "superblock";
  static constexpr uint16_t kMajorVersion = 1;
  static constexpr uint16_t kMinorVersion = 0;

  uint16_t minor_version = kMinorVersion;
  Uuid uuid;
  Geometry::Stored geometry;  // consistent: Geometry::FromStored accepts it
  uint64_t format_time = 0;   // seconds since 1970

  void EncodeBody(std::span<std::byte> record) const;
  static absl::StatusOr<Superblock> DecodeBody(
      std::span<const std::byte> record);
};

// What the first bytes of a device look like, before any CRC is believed.
enum class DeviceKind {
  kBlank,    // both superblock slots are all zero
  kForeign,  // neither slot carries our magic
  kNewer,    // our magic, another major version
  kOurs,
};
// `slot0` and `slot1` are the superblock slots' first Superblock::kSize bytes.
DeviceKind ClassifyDevice(std::span<const std::byte> slot0,
                          std::span<const std::byte> slot1);

struct CacheInfo {
  static constexpr uint16_t kType = 2;
  static constexpr size_t kSize = 512;
  static constexpr char kName[] = "cache info";

  bool clean_stop = false;
  uint8_t gc_percent = 70;  // for new images, 0..90
  uint64_t start_count = 0;
  std::string label;  // at most 63 bytes

  void EncodeBody(std::span<std::byte> record) const;
  static absl::StatusOr<CacheInfo> DecodeBody(
      std::span<const std::byte> record);
};

inline constexpr int kMaxGcPercent = 90;

enum class ImageState : uint8_t { kNone = 0, kAttached = 1, kDetached = 2 };
enum class CacheMode : uint8_t {
  kWriteback = 0,
  kWritethrough = 1,
  kWritearound = 2,
  kWriteonly = 3,
  kPassthrough = 4,
};
// Writes go to the backing device before they are acknowledged; nothing is
// dirty.
constexpr bool GoesAround(CacheMode mode) {
  return mode != CacheMode::kWriteback && mode != CacheMode::kWriteonly;
}
// Reads that miss fill the cache.
constexpr bool FillsReads(CacheMode mode) {
  return mode != CacheMode::kWriteonly && mode != CacheMode::kPassthrough;
}
enum class WritebackOrder : uint8_t { kStrict = 0, kGrouped = 1, kRelaxed = 2 };
enum class BackingKind : uint8_t { kFile = 1, kBlockDevice = 2, kNbd = 3 };

// The words of flags, JSON and messages: "writeback", "strict", "file", ...
const char* Name(ImageState state);
const char* Name(CacheMode mode);
const char* Name(WritebackOrder order);
const char* Name(BackingKind kind);
absl::StatusOr<CacheMode> ParseCacheMode(absl::string_view name);
absl::StatusOr<WritebackOrder> ParseWritebackOrder(absl::string_view name);

// Which device stands behind an image. `text` tells it from every other of its
// kind even when paths change.
struct BackingIdentity {
  BackingKind kind = BackingKind::kFile;
  uint64_t size = 0;  // bytes
  std::string text;   // at most 255 bytes

  friend bool operator==(const BackingIdentity&,
                         const BackingIdentity&) = default;
};

// OK iff `name` can name an image: 1..63 of [A-Za-z0-9._-], no leading '.'.
absl::Status ValidateImageName(absl::string_view name);

struct ImageRecord {
  static constexpr uint16_t kType = 3;
  static constexpr size_t kSize = 2048;
  static constexpr char kName[] = "image record";

  ImageState state = ImageState::kNone;
  CacheMode mode = CacheMode::kWriteback;
  WritebackOrder order = WritebackOrder::kStrict;
  uint8_t gc_percent = 70;
  bool read_only_backing = false;
  // Nobody asked for a share of this size: it may become smaller when another
  // image comes.
  bool has_default_share = false;
  // The order was not strict when some of what is dirty was logged: the backing
  // device may hold parts of several epochs until that is written back.
  bool mixed_epochs = false;
  Uuid uuid;
  uint64_t size = 0;  // bytes, a multiple of kSectorSize
  uint32_t share_segments = 0;
  Incarnation incarnation;
  uint64_t create_time = 0;  // seconds since 1970
  std::string name;
  BackingIdentity backing;
  std::string backing_spec;             // at most 1023 bytes
  uint64_t max_dirty = 0;               // bytes, 0 = default
  uint64_t writeback_rate_floor = 0;    // bytes per second, 0 = none
  uint64_t writeback_rate_ceiling = 0;  // bytes per second, 0 = none
  uint64_t sequential_cutoff = 0;       // bytes, 0 = off
  uint32_t max_dirty_age = 0;           // seconds, 0 = none

  void EncodeBody(std::span<std::byte> record) const;
  static absl::StatusOr<ImageRecord> DecodeBody(
      std::span<const std::byte> record);
};

struct LogTails {
  static constexpr uint16_t kType = 4;
  static constexpr size_t kSize = 128;
  static constexpr char kName[] = "log tails";

  ImageTag image;
  LogPosition key_tail;
  LogPosition dirty_tail;
  LogPosition key_head;
  SequenceNumber committed;
  bool clean_stop = false;  // key_head is exact
  // Of the last set before key_tail, 0 if there was none: no set of an earlier
  // one can stand at key_tail.
  Incarnation tail_incarnation;
  // Provisional keys with numbers in [void_begin, void_end) count for nothing,
  // wherever dirty_tail is: a start found them beyond it.
  SequenceNumber void_begin;
  SequenceNumber void_end;

  // Rejects key_tail > dirty_tail, or dirty_tail > key_head (C4). Bounds
  // against a device are the loader's: see ValidateLogPosition.
  void EncodeBody(std::span<std::byte> record) const;
  static absl::StatusOr<LogTails> DecodeBody(std::span<const std::byte> record);
};

// DataLoss, naming `what`, unless `position` lies within the device, is a
// multiple of 8, and has a sequence number and a generation of at least 1.
absl::Status ValidateLogPosition(const LogPosition& position,
                                 const Geometry& geometry,
                                 absl::string_view what);

enum class SegmentUse : uint8_t { kFree = 0, kPayload = 1, kLog = 2 };
const char* Name(SegmentUse use);

struct SegmentRecord {
  static constexpr uint16_t kType = 5;
  static constexpr size_t kSize = kSegmentRecordSize;
  static constexpr char kName[] = "segment record";

  Generation generation;
  SegmentUse use = SegmentUse::kFree;
  ImageId owner;
  ImageTag image;
  SequenceNumber first_sequence;  // log only

  void EncodeBody(std::span<std::byte> record) const;
  static absl::StatusOr<SegmentRecord> DecodeBody(
      std::span<const std::byte> record);
};

}  // namespace pcachefs

#endif  // PCACHEFS_META_RECORDS_H_
