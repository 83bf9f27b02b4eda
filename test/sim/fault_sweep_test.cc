// Proves what is promised when devices fail: the i-th call of each kind fails
// with an input/output error, for i = 0, 1, 2, ... until none fails any more.
// Requests may fail then; but nothing acknowledged is lost, nothing wrong is
// read, and a flush that was acknowledged was one (C9).

#include <cstdint>
#include <iostream>

#include "absl/status/status.h"
#include "gflags/gflags.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "test/sim/script.h"
#include "test/testing/image_fixture.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using Run = void (*)(ImageFixture&);

// Fails the call number `index` of `kinds` of the cache device in the script.
// Returns false if there was none; `cut_power` decides how it ends.
void FailCacheDevice(Run run, uint32_t kinds, uint64_t index, bool cut_power,
                     bool& fired) {
  ImageFixture machine(ScriptMachine());
  ASSERT_THAT(machine.Start(/*judge=*/false), IsOk());
  machine.set_faults_expected(true);
  machine.cache_device().FailNth(kinds, index);

  run(machine);

  fired = machine.cache_device().fault_fired();
  ASSERT_THAT(machine.status(), IsOk());
  if (machine.is_on()) {
    ASSERT_THAT(machine.JudgeBacking(index), IsOk());
  }
  cut_power ? machine.CutPower(index) : machine.Crash();
  machine.set_faults_expected(false);
  ASSERT_THAT(machine.Start(), IsOk());
  ASSERT_THAT(machine.Write(Bytes(0, 4096)), IsOk());
  ASSERT_THAT(machine.Drain(), IsOk());
  ASSERT_THAT(machine.Stop(), IsOk());
  ASSERT_THAT(machine.Check(), IsOk());
}

void SweepCacheDevice(uint32_t kinds, uint64_t stride, Run run = RunScript) {
  uint64_t count = 0;
  for (uint64_t index = 0;; index += stride, ++count) {
    bool fired = false;
    FailCacheDevice(run, kinds, index, (index / stride) % 2 == 0, fired);
    if (testing::Test::HasFatalFailure()) {
      FAIL() << "when call " << index << " of kind " << kinds << " failed";
    }
    if (!fired) break;
  }
  std::cout << count << " faults\n";
  EXPECT_GT(count, 5);
}

TEST(FaultSweep, CacheDevicePersistFails) {
  SweepCacheDevice(FakeCacheDevice::kPersist, 1);
}

TEST(FaultSweep, CacheDeviceWriteFails) {
  SweepCacheDevice(FakeCacheDevice::kWrite, 2);
}

TEST(FaultSweep, CacheDeviceReadFails) {
  SweepCacheDevice(FakeCacheDevice::kRead, 3);
}

void FailDisk(Run run, uint32_t kinds, uint64_t index, bool& fired) {
  ImageFixture machine(ScriptMachine());
  ASSERT_THAT(machine.Start(/*judge=*/false), IsOk());
  machine.set_faults_expected(true);
  machine.disk().FailNth(kinds, index);
  absl::Status order;
  machine.disk().set_hook([&] {
    if (order.ok()) order = machine.JudgeBacking(index);
  });

  run(machine);

  machine.disk().set_hook(nullptr);
  fired = machine.disk().fault_fired();
  machine.disk().ClearFaults();
  ASSERT_THAT(order, IsOk());
  ASSERT_THAT(machine.status(), IsOk());
  // The error went away by itself, so writeback gets everything out.
  ASSERT_TRUE(machine.is_on());
  ASSERT_THAT(machine.Drain(), IsOk());
  ASSERT_THAT(machine.Judge(), IsOk());
  ASSERT_THAT(machine.Stop(), IsOk());
  ASSERT_THAT(machine.Check(), IsOk());
}

void SweepDisk(uint32_t kinds, uint64_t least, Run run = RunScript) {
  uint64_t count = 0;
  for (uint64_t index = 0;; ++index, ++count) {
    bool fired = false;
    FailDisk(run, kinds, index, fired);
    if (testing::Test::HasFatalFailure()) {
      FAIL() << "when request " << index << " of kind " << kinds << " failed";
    }
    if (!fired) break;
  }
  std::cout << count << " faults\n";
  EXPECT_GE(count, least);
}

TEST(FaultSweep, BackingReadFails) { SweepDisk(FakeDisk::kRead, 5); }

TEST(FaultSweep, BackingWriteFails) { SweepDisk(FakeDisk::kWrite, 5); }

TEST(FaultSweep, BackingFlushFails) { SweepDisk(FakeDisk::kFlush, 3); }

TEST(FaultSweepOfModes, BackingReadFails) {
  SweepDisk(FakeDisk::kRead, 5, RunModesScript);
}

TEST(FaultSweepOfModes, BackingWriteFails) {
  SweepDisk(FakeDisk::kWrite, 50, RunModesScript);
}

TEST(FaultSweepOfModes, BackingFlushFails) {
  SweepDisk(FakeDisk::kFlush, 20, RunModesScript);
}

TEST(FaultSweepOfModes, CacheDevicePersistFails) {
  SweepCacheDevice(FakeCacheDevice::kPersist, 2, RunModesScript);
}

TEST(FaultSweepOfModes, CacheDeviceWriteFails) {
  SweepCacheDevice(FakeCacheDevice::kWrite, 7, RunModesScript);
}

}  // namespace
}  // namespace pcachefs

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  FLAGS_minloglevel = google::GLOG_FATAL;  // faults are the daily bread here
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  return RUN_ALL_TESTS();
}
