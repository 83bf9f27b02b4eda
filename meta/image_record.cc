// ImageRecord and the names of its choices: docs/on_media_format.md section 5.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "meta/endian.h"
#include "meta/record_field.h"
#include "meta/records.h"
#include "meta/status_macros.h"
#include "meta/types.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

constexpr uint32_t kFlagReadOnlyBacking = 1;
constexpr uint32_t kFlagDefaultShare = 2;
constexpr uint32_t kFlagMixedEpochs = 4;
constexpr size_t kUuidOffset = 24;
constexpr size_t kNameOffset = 64;
constexpr size_t kNameSize = 64;
constexpr size_t kIdentityOffset = 144;
constexpr size_t kIdentitySize = 256;
constexpr size_t kSpecOffset = 400;
constexpr size_t kSpecSize = 1024;

template <typename Enum>
constexpr uint8_t Number(Enum value) {
  return static_cast<uint8_t>(value);
}

// The byte at `offset` as a value of an enumeration without gaps.
template <typename Enum>
absl::StatusOr<Enum> LoadEnum(std::span<const std::byte> record, size_t offset,
                              Enum first, Enum last, absl::string_view field) {
  const auto value = LoadLittle<uint8_t>(record, offset);
  if (value < Number(first) || value > Number(last)) {
    return FieldError(ImageRecord::kName, field, value,
                      absl::StrCat(Number(first), " to ", Number(last)));
  }
  return static_cast<Enum>(value);
}

absl::Status LoadChoices(std::span<const std::byte> record,
                         ImageRecord& image) {
  ASSIGN_OR_RETURN(image.state, LoadEnum(record, 16, ImageState::kNone,
                                         ImageState::kDetached, "state"));
  ASSIGN_OR_RETURN(image.mode, LoadEnum(record, 17, CacheMode::kWriteback,
                                        CacheMode::kPassthrough, "mode"));
  ASSIGN_OR_RETURN(image.order, LoadEnum(record, 18, WritebackOrder::kStrict,
                                         WritebackOrder::kRelaxed, "order"));
  image.gc_percent = LoadLittle<uint8_t>(record, 19);
  if (image.gc_percent > kMaxGcPercent) {
    return FieldError(ImageRecord::kName, "gc_percent", image.gc_percent,
                      absl::StrCat("0 to ", kMaxGcPercent));
  }
  ASSIGN_OR_RETURN(image.backing.kind,
                   LoadEnum(record, 128, BackingKind::kFile, BackingKind::kNbd,
                            "backing kind"));
  return absl::OkStatus();
}

absl::Status LoadTexts(std::span<const std::byte> record, ImageRecord& image) {
  constexpr absl::string_view kRecord = ImageRecord::kName;
  ASSIGN_OR_RETURN(image.name, LoadText(record.subspan(kNameOffset, kNameSize),
                                        kRecord, "name"));
  ASSIGN_OR_RETURN(image.backing.text,
                   LoadText(record.subspan(kIdentityOffset, kIdentitySize),
                            kRecord, "backing identity"));
  ASSIGN_OR_RETURN(image.backing_spec,
                   LoadText(record.subspan(kSpecOffset, kSpecSize), kRecord,
                            "backing spec"));
  // A record that describes no image need not name one.
  if (image.state == ImageState::kNone && image.name.empty()) {
    return absl::OkStatus();
  }
  const absl::Status name_status = ValidateImageName(image.name);
  if (name_status.ok()) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(kRecord, ": ", name_status.message()));
}

absl::Status LoadNumbers(std::span<const std::byte> record,
                         ImageRecord& image) {
  const uint32_t flags = LoadLittle<uint32_t>(record, 20);
  image.read_only_backing = (flags & kFlagReadOnlyBacking) != 0;
  image.has_default_share = (flags & kFlagDefaultShare) != 0;
  image.mixed_epochs = (flags & kFlagMixedEpochs) != 0;
  std::memcpy(image.uuid.bytes.data(),
              record.subspan(kUuidOffset, image.uuid.bytes.size()).data(),
              image.uuid.bytes.size());
  image.size = LoadLittle<uint64_t>(record, 40);
  if (!IsAligned(image.size, kSectorSize) || image.size > kMaxImageSize) {
    return FieldError(ImageRecord::kName, "size", image.size,
                      absl::StrCat("a multiple of ", kSectorSize, ", at most ",
                                   kMaxImageSize));
  }
  image.share_segments = LoadLittle<uint32_t>(record, 48);
  image.incarnation = Incarnation(LoadLittle<uint32_t>(record, 52));
  if (image.incarnation > kMaxIncarnation) {
    return FieldError(ImageRecord::kName, "incarnation",
                      image.incarnation.value(),
                      absl::StrCat("at most ", kMaxIncarnation.value()));
  }
  image.create_time = LoadLittle<uint64_t>(record, 56);
  image.backing.size = LoadLittle<uint64_t>(record, 136);
  image.max_dirty = LoadLittle<uint64_t>(record, 1424);
  image.writeback_rate_floor = LoadLittle<uint64_t>(record, 1432);
  image.writeback_rate_ceiling = LoadLittle<uint64_t>(record, 1440);
  image.sequential_cutoff = LoadLittle<uint64_t>(record, 1448);
  image.max_dirty_age = LoadLittle<uint32_t>(record, 1456);
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateImageName(absl::string_view name) {
  if (name.empty() || name.size() >= kNameSize) {
    return absl::InvalidArgumentError(absl::StrCat(
        "image name: got ", name.size(), " bytes, want 1 to ", kNameSize - 1));
  }
  if (name[0] == '.') {
    return absl::InvalidArgumentError(
        absl::StrCat("image name: got '", absl::CHexEscape(name),
                     "', want a name that does not begin with '.'"));
  }
  for (const char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '.' &&
        c != '_' && c != '-') {
      return absl::InvalidArgumentError(
          absl::StrCat("image name: got '", absl::CHexEscape(name),
                       "', want only letters, digits, '.', '_' and '-'"));
    }
  }
  return absl::OkStatus();
}

void ImageRecord::EncodeBody(std::span<std::byte> record) const {
  ABSL_HARDENING_ASSERT(gc_percent <= kMaxGcPercent);
  ABSL_HARDENING_ASSERT(IsAligned(size, kSectorSize) && size <= kMaxImageSize);
  StoreLittle<uint8_t>(record, 16, Number(state));
  StoreLittle<uint8_t>(record, 17, Number(mode));
  StoreLittle<uint8_t>(record, 18, Number(order));
  StoreLittle<uint8_t>(record, 19, gc_percent);
  StoreLittle<uint32_t>(record, 20,
                        (read_only_backing ? kFlagReadOnlyBacking : 0) |
                            (has_default_share ? kFlagDefaultShare : 0) |
                            (mixed_epochs ? kFlagMixedEpochs : 0));
  std::memcpy(record.subspan(kUuidOffset, uuid.bytes.size()).data(),
              uuid.bytes.data(), uuid.bytes.size());
  StoreLittle<uint64_t>(record, 40, size);
  StoreLittle<uint32_t>(record, 48, share_segments);
  StoreLittle<uint32_t>(record, 52, incarnation.value());
  StoreLittle<uint64_t>(record, 56, create_time);
  StoreText(record.subspan(kNameOffset, kNameSize), name);
  StoreLittle<uint8_t>(record, 128, Number(backing.kind));
  StoreLittle<uint64_t>(record, 136, backing.size);
  StoreText(record.subspan(kIdentityOffset, kIdentitySize), backing.text);
  StoreText(record.subspan(kSpecOffset, kSpecSize), backing_spec);
  StoreLittle<uint64_t>(record, 1424, max_dirty);
  StoreLittle<uint64_t>(record, 1432, writeback_rate_floor);
  StoreLittle<uint64_t>(record, 1440, writeback_rate_ceiling);
  StoreLittle<uint64_t>(record, 1448, sequential_cutoff);
  StoreLittle<uint32_t>(record, 1456, max_dirty_age);
}

absl::StatusOr<ImageRecord> ImageRecord::DecodeBody(
    std::span<const std::byte> record) {
  ImageRecord image;
  RETURN_IF_ERROR(LoadChoices(record, image));
  RETURN_IF_ERROR(LoadNumbers(record, image));
  RETURN_IF_ERROR(LoadTexts(record, image));
  return image;
}

}  // namespace pcachefs
