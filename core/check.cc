#include "core/check.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/barrier.h"
#include "core/cache_core.h"
#include "core/image_core.h"
#include "core/log_reader.h"
#include "core/replay.h"
#include "core/segment_table.h"
#include "core/slot_store.h"
#include "meta/crc32c.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

using Severity = CheckFinding::Severity;

// Nothing that check uses asks for the time.
class NoClock : public Clock {
 public:
  absl::Time Now() override { return absl::UnixEpoch(); }
  absl::Time WallNow() override { return absl::UnixEpoch(); }
};

class Checker {
 public:
  Checker(CacheDevice& device, const CheckOptions& options)
      : device_(device), options_(options), barrier_(device) {}

  absl::StatusOr<CheckReport> Check() {
    absl::StatusOr<DeviceRecords> records = ReadDeviceRecords(device_);
    if (absl::IsFailedPrecondition(records.status())) {
      return records.status();
    }
    if (!records.ok()) {
      Add(Severity::kDamage, "", records.status().message());
      return std::move(report_);
    }
    geometry_.emplace(records->geometry);
    report_.clean_stop = records->info.clean_stop;
    CheckSlots<Superblock>("", {SuperblockOffset(0), SuperblockOffset(1)});
    CheckSlots<CacheInfo>("",
                          {geometry_->cache_info(0), geometry_->cache_info(1)});

    table_ = std::make_unique<SegmentTable>(device_, *geometry_, barrier_);
    const absl::Status loaded = table_->Load();
    if (!loaded.ok()) {
      Add(Severity::kDamage, "", loaded.message());
      return std::move(report_);
    }
    CheckTableSlots();
    for (uint32_t i = 0; i < geometry_->image_slots(); ++i) {
      RETURN_IF_ERROR(CheckImageSlot(ImageId(i)));
    }
    CheckTogether();
    return std::move(report_);
  }

 private:
  void Add(Severity severity, absl::string_view image,
           absl::string_view message) {
    report_.findings.push_back({.severity = severity,
                                .image = std::string(image),
                                .message = std::string(message)});
  }

  // Tells of a slot that is damaged although the other one holds the record. A
  // store that a power cut tore leaves it so, except where nothing is stored.
  template <typename T>
  void CheckSlots(absl::string_view image,
                  const std::array<MediaOffset, 2>& slots) {
    const absl::StatusOr<SlotChoice<T>> choice = LoadSlots<T>(device_, slots);
    if (!choice.ok() || choice->other.ok()) return;
    constexpr bool kStoredInService = T::kType != Superblock::kType;
    Add(kStoredInService ? Severity::kNote : Severity::kDamage, image,
        absl::StrCat(T::kName, " at ", slots[1 - choice->slot].value(), ": ",
                     choice->other.message(), "; the copy at ",
                     slots[choice->slot].value(), " is used"));
  }

  // One finding for all: a power cut may tear many stores at once.
  void CheckTableSlots() {
    std::string first;
    uint32_t count = 0;
    for (uint32_t i = 0; i < geometry_->segment_count(); ++i) {
      const absl::StatusOr<SlotChoice<SegmentRecord>> choice =
          LoadSlots<SegmentRecord>(device_,
                                   {geometry_->segment_record(SegmentId(i), 0),
                                    geometry_->segment_record(SegmentId(i), 1)});
      if (!choice.ok() || choice->other.ok()) continue;
      if (count++ == 0) {
        first = absl::StrCat("segment ", i, ": ", choice->other.message());
      }
    }
    if (count == 0) return;
    Add(Severity::kNote, "",
        absl::StrCat("segment table: ", count,
                     " records are damaged in one copy, the other is used; "
                     "the first: ", first));
  }

  // What no record tells by itself.
  void CheckTogether() {
    const auto images = ReadImageTable(device_, *geometry_);
    const absl::Status status =
        images.ok() ? CheckOwners(*images, *table_) : images.status();
    if (status.ok() || (!images.ok() && report_.damaged())) return;
    Add(Severity::kDamage, "",
        absl::StrCat(status.message(), "; the cache cannot be opened"));
  }

  absl::Status CheckImageSlot(ImageId id) {
    const std::array<MediaOffset, 2> slots = {geometry_->image_record(id, 0),
                                              geometry_->image_record(id, 1)};
    const absl::StatusOr<SlotChoice<ImageRecord>> record =
        LoadImageRecord(device_, *geometry_, id);
    if (absl::IsNotFound(record.status())) return absl::OkStatus();
    if (!record.ok()) {
      Add(Severity::kDamage, "",
          absl::StrCat("image table, slot ", id.value(), ": ",
                       record.status().message(),
                       "; the image cannot be opened"));
      return absl::OkStatus();
    }
    ++report_.images;
    const std::string& name = record->value.name;
    CheckSlots<ImageRecord>(name, slots);
    const std::array<MediaOffset, 2> tails_slots = {
        geometry_->log_tails(id, 0), geometry_->log_tails(id, 1)};
    CheckSlots<LogTails>(name, tails_slots);
    const absl::StatusOr<SlotChoice<LogTails>> tails =
        LoadSlots<LogTails>(device_, tails_slots);
    if (!tails.ok() || tails->value.image != record->value.uuid.tag()) {
      Add(Severity::kDamage, name,
          absl::StrCat("log tails: ",
                       tails.ok() ? "of another image"
                                  : std::string(tails.status().message()),
                       "; the image cannot be opened"));
      return absl::OkStatus();
    }
    return CheckLog(id, record->value, tails->value);
  }

  absl::Status CheckLog(ImageId id, const ImageRecord& record,
                        const LogTails& tails) {
    const absl::StatusOr<LogEnd> end =
        FindLogEnd(device_, *table_, record, tails);
    if (!end.ok()) return NoteLogError(record.name, end.status());
    if (end->dropped_key_sets > 0) {
      Add(Severity::kNote, record.name,
          absl::StrCat(end->dropped_key_sets,
                       " key sets behind the torn end of the log will be "
                       "dropped: no flush covered them"));
    }
    // The daemon's own replay, into an image without a backing device.
    ImageCore core(parts(), nullptr,
                   {.id = id,
                    .record = record,
                    .tails = tails,
                    .log = {.head = end->head,
                            .incarnation = end->incarnation,
                            .durable = end->head.sequence - 1}});
    ImageStatus::Replay found;
    const absl::Status replayed = ReplayLog(core, found);
    if (!replayed.ok()) return NoteLogError(record.name, replayed);
    report_.key_sets += found.key_sets;
    report_.keys += found.keys;
    report_.dirty_bytes += core.dirty_bytes();
    if (!options_.verify_payload) return absl::OkStatus();
    return CheckPayload(core);
  }

  // Damage is a finding; a device that fails ends the check.
  absl::Status NoteLogError(const std::string& image,
                            const absl::Status& status) {
    if (!absl::IsDataLoss(status)) return status;
    Add(Severity::kDamage, image,
        absl::StrCat(status.message(), "; the image cannot be opened"));
    return absl::OkStatus();
  }

  absl::Status CheckPayload(ImageCore& core) {
    const SequenceNumber end = core.log().head().sequence;
    const SequenceNumber dirty_tail = core.tails().dirty_tail().sequence;
    LogReader reader(device_, *table_,
                     {.image = core.tag(),
                      .image_size = core.size(),
                      .position = core.tails().key_tail(),
                      .min_incarnation = core.tails().tail_incarnation()});
    while (reader.position().sequence < end) {
      ASSIGN_OR_RETURN(const KeySetView set, reader.Next());
      KeySetView::Cursor cursor(set);
      while (cursor.Next()) {
        const Key& key = cursor.key();
        if (!HasPayload(key.kind) ||
            table_->segment(key.position.segment).generation() !=
                key.generation) {
          continue;
        }
        CheckKeyPayload(core, cursor,
                        IsDirty(key.kind) &&
                            set.header().sequence >= dirty_tail);
      }
      if (options_.progress) {
        options_.progress(report_.payload_bytes, device_.size());
      }
    }
    return absl::OkStatus();
  }

  void CheckKeyPayload(ImageCore& core, const KeySetView::Cursor& cursor,
                       bool dirty) {
    const Key& key = cursor.key();
    std::array<std::byte, kBlockSize> block;
    for (uint32_t i = 0; i < PayloadBlocks(key); ++i) {
      const MediaOffset offset =
          geometry_->position(key.position) + i * kBlockSize;
      const absl::Status read = device_.Read(offset, block);
      const uint32_t got = Crc32c(block);
      report_.payload_bytes += block.size();
      if (read.ok() && got == cursor.crc(i)) continue;
      const ImageOffset at = key.range.offset + i * kBlockSize;
      const uint64_t length = std::min(kBlockSize, key.range.end() - at);
      const std::string what =
          read.ok() ? absl::StrCat("wrong checksum: got ", absl::Hex(got),
                                   ", want ", absl::Hex(cursor.crc(i)))
                    : std::string(read.message());
      if (dirty) {
        Add(Severity::kDamage, core.name(),
            absl::StrCat(length, " bytes of dirty data at ", at.value(),
                         " lost: payload at ", offset.value(), ": ", what));
      } else {
        Add(Severity::kDamage, core.name(),
            absl::StrCat(length, " bytes of clean data at ", at.value(),
                         " are damaged, nothing is lost, they will be read "
                         "from the backing device: payload at ",
                         offset.value(), ": ", what));
      }
    }
  }

  CacheDevice& device_;
  const CheckOptions& options_;
  CheckReport report_;
  NoClock clock_;
  const CacheOptions cache_options_;
  Barrier barrier_;
  std::optional<Geometry> geometry_;
  std::unique_ptr<SegmentTable> table_;

  // Made when table_ is there.
  CacheParts parts() {
    return {device_, barrier_, *table_, clock_, cache_options_};
  }
};

}  // namespace

bool CheckReport::damaged() const {
  return std::any_of(findings.begin(), findings.end(),
                     [](const CheckFinding& finding) {
                       return finding.severity == Severity::kDamage;
                     });
}

absl::StatusOr<CheckReport> CheckCache(CacheDevice& device,
                                       const CheckOptions& options) {
  return Checker(device, options).Check();
}

}  // namespace pcachefs
