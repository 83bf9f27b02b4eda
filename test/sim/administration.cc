#include "test/sim/administration.h"

#include "core/image_settings.h"
#include "meta/units.h"
#include "test/sim/load.h"

namespace pcachefs {

Administration::Administration(Machine& machine, Random& random,
                               SimulationCounts& counts)
    : machine_(machine),
      random_(random),
      counts_(counts),
      switch_percent_(OneOf(random, {0, 0, 1, 5})),
      manage_percent_(OneOf(random, {0, 1, 1, 4})) {}

absl::Status Administration::Perhaps() {
  if (random_.Percent(switch_percent_)) {
    if (JudgedImage* image = machine_.AnyServed()) Switch(*image);
  }
  if (random_.Percent(manage_percent_)) {
    if (random_.Percent(20)) {
      counts_.Count("stop at a change");
      machine_.cache_device().StopAt(random_.Below(25));
    }
    Manage(random_.Below(machine_.image_count()));
  }
  return machine_.status();
}

void Administration::Switch(JudgedImage& image) {
  if (random_.Percent(70)) {
    counts_.Count("mode switched");
    image.StartSetMode(RandomMode(random_));
  } else {
    counts_.Count("order changed");
    image.SetOrder(RandomOrder(random_));
  }
}

void Administration::ChangeSettings(JudgedImage& image) {
  counts_.Count("settings changed");
  ImageChanges changes;
  changes.gc_percent = OneOf(random_, {0, 10, 50, 90});
  if (random_.Percent(50)) {
    changes.max_dirty = OneOf(random_, {uint64_t{0}, kMiB, 4 * kMiB});
  }
  const absl::Status changed = image.image().Change(changes);
  if (!machine_.stopped() && !machine_.state().faults_expected) {
    machine_.state().Violate(changed);
  }
}

void Administration::Manage(size_t i) {
  if (machine_.is_served(i)) return ManageServed(i);
  if (machine_.is_kept(i)) {
    switch (random_.Below(8)) {
      case 0:
        counts_.Count("attach of the wrong disk");
        machine_.AttachWrongDisk(i).IgnoreError();
        return;
      case 1:
        counts_.Count("detach discarding dirty data");
        machine_.Detach(i, DetachKind::kDiscard).IgnoreError();
        return;
      default:
        break;
    }
  }
  counts_.Count("attach");
  machine_.Attach(i).IgnoreError();
}

void Administration::ManageServed(size_t i) {
  JudgedImage& image = machine_.image(i);
  switch (random_.Below(9)) {
    case 0:
    case 1:
    case 2:
      return Detach(i);
    case 3:
      counts_.Count("drain");
      return image.StartDrain();
    case 4:
    case 5: {
      const absl::Status set = machine_.SetShare(i, random_.Between(5, 24));
      counts_.Count(set.ok() ? "share changed" : "share refused");
      return;
    }
    case 6:
      counts_.Count("cache device grows");
      machine_.GrowCache().IgnoreError();
      return;
    case 7:
      counts_.Count("disk grows");
      return image.disk().Grow();
    default:
      return ChangeSettings(image);
  }
}

void Administration::Detach(size_t i) {
  switch (random_.Below(5)) {
    case 0:
      counts_.Count("detach discarding dirty data");
      machine_.Detach(i, DetachKind::kDiscard).IgnoreError();
      return;
    case 1:
      counts_.Count("detach of a dirty image");
      machine_.Detach(i, DetachKind::kRemove).IgnoreError();
      return;
    case 2:
    case 3:
      counts_.Count("detach keeping dirty data");
      machine_.Detach(i, DetachKind::kKeepDirty).IgnoreError();
      return;
    default:
      counts_.Count("detach");
      if (machine_.Drain(i).ok()) {
        machine_.Detach(i, DetachKind::kRemove).IgnoreError();
      }
  }
}

}  // namespace pcachefs
