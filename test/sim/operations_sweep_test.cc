// Proves that every management operation can be interrupted anywhere
// (test/sim/operations_sweep.h), and format and repair too, which work on a
// device that nothing serves.
//
// Beside this: test/core/detach_test.cc and growth_test.cc, where operations
// are interrupted while others go on, and test/core/repair_test.cc, damage by
// damage.

#include "test/sim/operations_sweep.h"

#include <cstdint>
#include <iostream>
#include <string>

#include "absl/status/status.h"
#include "core/cache.h"
#include "core/cache_core.h"
#include "core/check.h"
#include "core/repair.h"
#include "gflags/gflags.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/fakes/fake_clock.h"
#include "test/testing/status_matchers.h"

DEFINE_uint64(stride, 1, "interrupt at every so manieth I/O only");

namespace pcachefs {
namespace {

class OperationsSweep : public testing::TestWithParam<size_t> {};

TEST_P(OperationsSweep, InterruptedAnywhere) {
  const ManagedOperation& operation = ManagedOperations()[GetParam()];
  const SweepResult result = SweepOperation(operation, {.stride = FLAGS_stride});
  std::cout << operation.name << ": " << result.states << " states, "
            << result.changes << " changes of the cache device\n";
  EXPECT_THAT(result.status, IsOk());
}

INSTANTIATE_TEST_SUITE_P(
    All, OperationsSweep, testing::Range(size_t{0}, ManagedOperations().size()),
    [](const testing::TestParamInfo<size_t>& info) {
      std::string name;
      for (const char c : std::string(ManagedOperations()[info.param].name)) {
        name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
      }
      return name;
    });

// A device that holds another cache is formatted anew: power leaves the old
// cache, none, or the new one, and never a mixture.
TEST(FormatSweep, InterruptedAnywhere) {
  FakeClock clock;
  FakeCacheDevice old_cache({.size = 20 * kMiB});
  Uuid old_uuid;
  old_uuid.bytes.fill(1);
  Uuid new_uuid;
  new_uuid.bytes.fill(2);
  ASSERT_THAT(
      Cache::Format(old_cache, {.segment_size = kMiB, .uuid = old_uuid}, clock),
      IsOk());
  int olds = 0;
  int nothings = 0;
  int news = 0;
  bool finished = false;
  for (uint64_t i = 0; !finished; ++i) {
    for (const uint64_t seed : {0, 1, 2, 3, 4, 5}) {
      auto device = old_cache.Fork();
      seed < 3 ? device->StopAt(i)
               : device->FailNth(
                     FakeCacheDevice::kWrite | FakeCacheDevice::kPersist, i);
      const absl::Status formatted = Cache::Format(
          *device, {.segment_size = kMiB, .uuid = new_uuid}, clock);
      finished = formatted.ok();
      device->Stop();
      Random random(seed + i);
      device->CutPower(random);
      const absl::StatusOr<Uuid> uuid = ReadUuid(*device);
      const absl::Status found = Cache::Inspect(*device);
      if (!found.ok()) {
        EXPECT_FALSE(finished);
        EXPECT_TRUE(absl::IsFailedPrecondition(found) ||
                    absl::IsDataLoss(found))
            << found;
        ++nothings;
        // It can be done again.
        EXPECT_THAT(Cache::Format(*device, {.segment_size = kMiB}, clock),
                    IsOk());
        continue;
      }
      ASSERT_THAT(uuid, IsOk());
      ++(uuid->bytes == old_uuid.bytes ? olds : news);
      auto opened = Cache::Open(*device, {.start_threads = false}, clock);
      ASSERT_THAT(opened.status(), IsOk()) << "at " << i;
      ASSERT_THAT((*opened)->Close(), IsOk());
      const auto checked = CheckCache(*device, {});
      ASSERT_THAT(checked, IsOk());
      EXPECT_FALSE(checked->damaged());
    }
  }
  std::cout << "old " << olds << ", none " << nothings << ", new " << news
            << "\n";
  EXPECT_GT(olds, 0);
  EXPECT_GT(nothings, 0);
  EXPECT_GT(news, 0);
}

// Of a cache with a damaged copy of each record.
TEST(RepairSweep, InterruptedAnywhereItCanBeDoneAgain) {
  FakeClock clock;
  FakeCacheDevice damaged({.size = 20 * kMiB});
  ASSERT_THAT(Cache::Format(damaged, {.segment_size = kMiB}, clock), IsOk());
  const auto records = ReadDeviceRecords(damaged);
  ASSERT_THAT(records.status(), IsOk());
  const Geometry& geometry = records->geometry;
  damaged.FlipBit(SuperblockOffset(0).value() + 20, 1);
  damaged.FlipBit(geometry.cache_info(1).value() + 20, 1);
  damaged.FlipBit(geometry.segment_record(SegmentId(3), 0).value() + 8, 1);
  uint64_t states = 0;
  bool finished = false;
  for (uint64_t i = 0; !finished; ++i) {
    for (const uint64_t seed : {0, 1, 2, 3}) {
      ++states;
      auto device = damaged.Fork();
      const absl::StatusOr<RepairPlan> plan = PlanRepair(*device);
      ASSERT_THAT(plan.status(), IsOk());
      EXPECT_TRUE(plan->beyond_repair.empty());
      ASSERT_FALSE(plan->steps.empty());
      seed < 2 ? device->StopAt(i)
               : device->FailNth(
                     FakeCacheDevice::kWrite | FakeCacheDevice::kPersist, i);
      finished = true;
      for (const RepairStep& step : plan->steps) {
        finished &= ApplyStores(*device, step.stores).ok();
      }
      device->Stop();
      Random random(seed);
      device->CutPower(random);
      const absl::StatusOr<RepairPlan> again = PlanRepair(*device);
      ASSERT_THAT(again.status(), IsOk());
      EXPECT_TRUE(again->beyond_repair.empty()) << "at " << i;
      for (const RepairStep& step : again->steps) {
        ASSERT_THAT(ApplyStores(*device, step.stores), IsOk());
      }
      const auto checked = CheckCache(*device, {});
      ASSERT_THAT(checked, IsOk());
      EXPECT_FALSE(checked->damaged()) << checked->findings[0].message;
      ASSERT_THAT(
          Cache::Open(*device, {.start_threads = false}, clock).status(),
          IsOk());
    }
  }
  std::cout << states << " states\n";
}

}  // namespace
}  // namespace pcachefs

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  FLAGS_minloglevel = google::GLOG_FATAL;  // crashes are the daily bread here
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  return RUN_ALL_TESTS();
}
