// All that can be done to an image, and to a loop device on it, at random by
// several threads at once, against a model in memory; with deaths of the daemon
// in between.
//
//   bazel run --config=ci //test/e2e:random_operations_test -- --ops=100000
//   --seed=7
//
// is the long form: of each thread between two deaths, and --rounds of these.

#include <cstdint>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file_exerciser.h"
#include "test/e2e/testing/loop_device.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/random_seed.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

struct Target {
  const char* name;
  uint32_t sector_size;  // of the loop device; 0: the image itself
  const char* flag;      // of the daemon
};

class RandomOperationsTest : public testing::TestWithParam<Target> {
 protected:
  bool on_loop() const { return GetParam().sector_size != 0; }

  void Start() {
    ASSERT_THAT(served_.Start(), IsOk());
    path_ = served_.image();
    if (!on_loop()) return;
    auto loop =
        LoopDevice::Attach(served_.image(), LoopDevice::Access::kReadWrite,
                           GetParam().sector_size);
    ASSERT_THAT(loop, IsOk());
    loop_ = *std::move(loop);
    path_ = loop_->path();
  }

  // Much smaller than what is written: everything is written back and reclaimed
  // all the time.
  ServedCache served_{{.backing_size = 32 * kMiB,
                       .cache_size = "20M",
                       .flags = {GetParam().flag}}};
  std::unique_ptr<LoopDevice> loop_;
  std::string path_;
};

TEST_P(RandomOperationsTest, GiveWhatTheModelGives) {
  const uint64_t seed = NumberFlag("seed", RandomSeed());
  const uint64_t operations = NumberFlag("ops", 300);
  const uint64_t rounds = NumberFlag("rounds", 2);
  FileExerciser exerciser(
      {.size = served_.size(),
       .seed = seed,
       .alignment = on_loop() ? GetParam().sector_size : 1});

  for (uint64_t round = 1; round <= rounds; ++round) {
    SCOPED_TRACE(absl::StrCat("seed ", seed, ", round ", round));
    ASSERT_NO_FATAL_FAILURE(Start());
    ASSERT_THAT(exerciser.Check(path_), IsOk());
    // What the image has taken, flushed or not, survives the death; a loop
    // device may still have it in its own pages.
    ASSERT_THAT(exerciser.Run(path_, operations, /*sync=*/on_loop()), IsOk());
    served_.Kill();
    loop_.reset();
  }

  ASSERT_NO_FATAL_FAILURE(Start());
  EXPECT_THAT(exerciser.Check(path_), IsOk());
  loop_.reset();
  ASSERT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(served_.Stop(), IsOk());
  EXPECT_THAT(exerciser.Check(served_.backing()), IsOk());
  std::cout << exerciser.operation_count() << " operations" << std::endl;
}

INSTANTIATE_TEST_SUITE_P(
    Targets, RandomOperationsTest,
    testing::Values(Target{"Image", 0, "--mode=writeback"},
                    Target{"ImageGrouped", 0, "--order=grouped"},
                    Target{"ImageWritethrough", 0, "--mode=writethrough"},
                    Target{"Loop512", 512, "--mode=writeback"},
                    Target{"Loop4096", 4096, "--mode=writeback"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace pcachefs
