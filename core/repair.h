// Makes a damaged cache device usable again, offline: what a second copy still
// holds is copied back; what is lost for good is given up, as little as
// possible, so that the rest can be served. Plans first, changes nothing by
// itself; shares every parser with the daemon.

#ifndef PCACHEFS_CORE_REPAIR_H_
#define PCACHEFS_CORE_REPAIR_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iobackend/cache_device.h"
#include "meta/types.h"

namespace pcachefs {

struct RepairStep {
  struct Store {
    MediaOffset offset;
    std::vector<std::byte> bytes;
  };

  std::string image;    // empty: the cache device's own records
  std::string message;  // what is wrong, what will be done, what is lost by it
  bool gives_up = false;  // something is lost by it: only if the user agrees
  std::vector<Store> stores;
};

struct RepairPlan {
  std::vector<RepairStep> steps;
  std::vector<std::string> beyond_repair;  // found, and nothing can be done
};

// Of the cache, as its superblock says. Errors of PlanRepair.
absl::StatusOr<Uuid> ReadUuid(CacheDevice& device);

// Reads only. A step is planned for what keeps the cache or an image from
// being opened, and for damaged copies; bad payload needs none, since the
// daemon reads it again or marks it lost. FailedPrecondition if the device
// holds no cache of this version; DataLoss if there is nothing left to start
// from; errors of the device.
absl::StatusOr<RepairPlan> PlanRepair(CacheDevice& device);

// What stands where the steps will store: storing it again takes them back.
absl::StatusOr<std::vector<RepairStep::Store>> ReadForUndo(
    CacheDevice& device, const std::vector<RepairStep>& steps);

// Durable when it returns. Cut short by whatever, it can be planned and applied
// again.
absl::Status ApplyStores(CacheDevice& device,
                         const std::vector<RepairStep::Store>& stores);

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_REPAIR_H_
