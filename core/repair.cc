#include "core/repair.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/barrier.h"
#include "core/cache_core.h"
#include "core/log_reader.h"
#include "core/replay.h"
#include "core/segment_table.h"
#include "core/slot_store.h"
#include "meta/geometry.h"
#include "meta/key_set.h"
#include "meta/records.h"
#include "meta/slot_pair.h"
#include "meta/status_macros.h"
#include "meta/units.h"

namespace pcachefs {
namespace {

template <typename T>
RepairStep::Store StoreOf(MediaOffset offset, const T& value,
                          uint64_t update_number) {
  const auto bytes = EncodeSlot(value, update_number);
  return {offset, {bytes.begin(), bytes.end()}};
}

RepairStep::Store Zeroes(MediaOffset offset, uint64_t length) {
  return {offset, std::vector<std::byte>(length)};
}

class Planner {
 public:
  explicit Planner(CacheDevice& device) : device_(device), barrier_(device) {}

  absl::StatusOr<RepairPlan> Plan() {
    ASSIGN_OR_RETURN(const DeviceRecords records, ReadDeviceRecords(device_));
    geometry_.emplace(records.geometry);
    PlanCopy<Superblock>({SuperblockOffset(0), SuperblockOffset(1)});
    PlanCopy<CacheInfo>({geometry_->cache_info(0), geometry_->cache_info(1)});
    table_ = std::make_unique<SegmentTable>(device_, *geometry_, barrier_);
    const absl::Status loaded = table_->Load();
    if (!loaded.ok()) {
      // Which payload is whose is not known any more.
      plan_.beyond_repair.push_back(absl::StrCat(
          loaded.message(), "; make the cache anew: pcachectl format --force ",
          device_.name()));
      return std::move(plan_);
    }
    for (uint32_t i = 0; i < geometry_->image_slots(); ++i) {
      RETURN_IF_ERROR(PlanImage(ImageId(i)));
    }
    return std::move(plan_);
  }

 private:
  // A damaged copy is made anew from the good one, one version older, so that
  // the good one stays the newest whatever happens.
  template <typename T>
  void PlanCopy(const std::array<MediaOffset, 2>& slots) {
    const absl::StatusOr<SlotChoice<T>> choice = LoadSlots<T>(device_, slots);
    if (!choice.ok() || choice->other.ok()) return;
    const MediaOffset bad = slots[1 - choice->slot];
    const uint64_t older = std::max<uint64_t>(choice->update_number, 2) - 1;
    plan_.steps.push_back(
        {.message = absl::StrCat(T::kName, " at ", bad.value(), ": ",
                                 choice->other.message(),
                                 "; to be copied from the one at ",
                                 slots[choice->slot].value(),
                                 "; nothing is lost"),
         .stores = {StoreOf(bad, choice->value, older)}});
  }

  absl::Status PlanImage(ImageId id) {
    const absl::StatusOr<SlotChoice<ImageRecord>> record =
        LoadImageRecord(device_, *geometry_, id);
    if (absl::IsNotFound(record.status())) return absl::OkStatus();
    if (!record.ok()) {
      GiveUpImage(id, "", record.status().message());
      return absl::OkStatus();
    }
    const std::string& name = record->value.name;
    absl::StatusOr<SlotChoice<LogTails>> tails =
        LoadSlots<LogTails>(device_, TailsSlots(id));
    if (!tails.ok()) {
      GiveUpImage(id, name, tails.status().message());
      return absl::OkStatus();
    }
    const absl::Status log =
        FindLogEnd(device_, *table_, record->value, tails->value).status();
    if (!absl::IsDataLoss(log)) return log;
    return PlanLog(id, record->value, *tails, log);
  }

  absl::Status PlanLog(ImageId id, const ImageRecord& record,
                       const SlotChoice<LogTails>& found,
                       const absl::Status& damage) {
    LogTails tails = found.value;
    tails.key_tail = tails.dirty_tail;
    const absl::Status dirty_part =
        FindLogEnd(device_, *table_, record, tails).status();
    RepairStep step = {.image = record.name, .gives_up = true};
    if (dirty_part.ok()) {
      step.message = absl::StrCat(
          damage.message(),
          "; the part of the log that is written back is to be given up: no "
          "data is lost, but what is cached of it, and marks of data that was "
          "lost before");
    } else if (absl::IsDataLoss(dirty_part)) {
      const absl::Status cut = CutLog(record, tails, step);
      if (absl::IsDataLoss(cut)) {
        GiveUpImage(id, record.name, cut.message());
        return absl::OkStatus();
      }
      RETURN_IF_ERROR(cut);
    } else {
      return dirty_part;
    }
    step.stores.push_back(StoreOf(TailsSlots(id)[1 - found.slot], tails,
                                  found.update_number + 1));
    plan_.steps.push_back(std::move(step));
    return absl::OkStatus();
  }

  // Ends the log where it cannot be read any more. The image goes back to that
  // instant, as after a power cut; what proves that more was durable goes too.
  absl::Status CutLog(const ImageRecord& record, LogTails& tails,
                      RepairStep& step) {
    LogReader reader(device_, *table_,
                     {.image = record.uuid.tag(),
                      .image_size = record.size,
                      .position = tails.dirty_tail,
                      .min_incarnation = tails.tail_incarnation});
    RETURN_IF_ERROR(CheckTail(record, tails.dirty_tail));
    uint64_t kept = 0;
    absl::Status damage;
    while (damage.ok()) {
      const absl::StatusOr<KeySetView> set = reader.Next();
      damage = set.status();
      if (!set.ok()) break;
      KeySetView::Cursor cursor(*set);
      while (cursor.Next()) {
        if (IsDirty(cursor.key().kind)) kept += cursor.key().range.length;
      }
    }
    if (absl::IsUnavailable(damage)) return damage;
    const LogPosition end = reader.position();
    tails.key_head = end;
    tails.committed = end.sequence;
    tails.clean_stop = false;
    const uint64_t rest = geometry_->segment_size() - end.offset.value();
    step.stores.push_back(
        Zeroes(geometry_->position({end.segment, end.offset}), rest));
    for (uint32_t i = 0; i < table_->segment_count(); ++i) {
      FreeIfLater(SegmentId(i), record, end, step);
    }
    step.message = absl::StrCat(
        "key log damaged in segment ", end.segment.value(), " at ",
        end.offset.value(), ": ", damage.message(),
        "; to be cut there: the image goes back to the state before key set ",
        end.sequence.value(), ", ", kept,
        " bytes of dirty data before it are kept, what was written later is "
        "lost");
    return absl::OkStatus();
  }

  void FreeIfLater(SegmentId id, const ImageRecord& record,
                   const LogPosition& end, RepairStep& step) {
    const SegmentRecord segment = table_->record(id);
    if (segment.use != SegmentUse::kLog ||
        segment.image != record.uuid.tag() || id == end.segment ||
        segment.first_sequence < end.sequence) {
      return;
    }
    const std::array<MediaOffset, 2> slots = {
        geometry_->segment_record(id, 0), geometry_->segment_record(id, 1)};
    const absl::StatusOr<SlotChoice<SegmentRecord>> choice =
        LoadSlots<SegmentRecord>(device_, slots);
    if (!choice.ok()) return;  // the table was loaded: it is there
    const SegmentRecord freed = {
        .generation = Generation(segment.generation.value() + 1),
        .use = SegmentUse::kFree};
    step.stores.push_back(StoreOf(slots[1 - choice->slot], freed,
                                  choice->update_number + 1));
  }

  absl::Status CheckTail(const ImageRecord& record,
                         const LogPosition& position) {
    RETURN_IF_ERROR(ValidateLogPosition(position, *geometry_, "dirty_tail"));
    const SegmentRecord segment = table_->record(position.segment);
    if (segment.use == SegmentUse::kLog &&
        segment.image == record.uuid.tag() &&
        segment.generation == position.generation) {
      return absl::OkStatus();
    }
    return absl::DataLossError(absl::StrCat(
        "dirty_tail points into segment ", position.segment.value(),
        ", which is not of its log"));
  }

  void GiveUpImage(ImageId id, const std::string& name,
                   absl::string_view why) {
    RepairStep step = {
        .image = name,
        .message = absl::StrCat(
            "image table, slot ", id.value(), ": ", why,
            "; the image is to be forgotten, so that the others can be "
            "served: its dirty data is lost, its backing device keeps what "
            "was written back"),
        .gives_up = true};
    for (const int slot : {0, 1}) {
      step.stores.push_back(
          Zeroes(geometry_->image_record(id, slot), ImageRecord::kSize));
    }
    plan_.steps.push_back(std::move(step));
  }

  std::array<MediaOffset, 2> TailsSlots(ImageId id) const {
    return {geometry_->log_tails(id, 0), geometry_->log_tails(id, 1)};
  }

  CacheDevice& device_;
  Barrier barrier_;
  std::optional<Geometry> geometry_;
  std::unique_ptr<SegmentTable> table_;
  RepairPlan plan_;
};

}  // namespace

absl::StatusOr<Uuid> ReadUuid(CacheDevice& device) {
  ASSIGN_OR_RETURN(const DeviceRecords records, ReadDeviceRecords(device));
  return records.superblock.uuid;
}

absl::StatusOr<RepairPlan> PlanRepair(CacheDevice& device) {
  return Planner(device).Plan();
}

absl::StatusOr<std::vector<RepairStep::Store>> ReadForUndo(
    CacheDevice& device, const std::vector<RepairStep>& steps) {
  std::vector<RepairStep::Store> undo;
  for (const RepairStep& step : steps) {
    for (const RepairStep::Store& store : step.stores) {
      undo.push_back(
          {store.offset, std::vector<std::byte>(store.bytes.size())});
      RETURN_IF_ERROR(device.Read(store.offset, undo.back().bytes));
    }
  }
  return undo;
}

absl::Status ApplyStores(CacheDevice& device,
                         const std::vector<RepairStep::Store>& stores) {
  for (const RepairStep::Store& store : stores) {
    RETURN_IF_ERROR(device.Write(store.offset, store.bytes));
  }
  return device.Persist();
}

}  // namespace pcachefs
