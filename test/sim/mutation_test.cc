// Proves that the simulator and the sweeps find what they are there to find:
// for each rule of docs/crash_consistency.md mistakes are planted in the core
// (core/mutation.h), one at a time, and each must be caught. The core without a
// mistake passes all of the same.
//
// To look at one: --mutation=ReuseBeforeBarrier, with --hunt=lives for another
// hunt than the one that finds it soonest.

#include "core/mutation.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <ctime>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gflags/gflags.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "test/sim/hunts.h"

DEFINE_string(mutation, "", "plant only this one");
DEFINE_string(hunt, "", "hunt this way, whatever the table says");
DEFINE_uint64(rounds, 0, "give up after so many, whatever the hunt says");

namespace pcachefs {
namespace {

struct Planting {
  const char* rule;
  Mutation mutation;
  const char* name;
  const char* hunt;  // the one that finds it soonest
};

#define PLANT(rule, name, hunt) \
  { rule, Mutation::k##name, #name, hunt }
constexpr Planting kPlantings[] = {
    PLANT("C1", ReplayTrustsPayload, "cuts"),
    PLANT("C1", CommitClaimsEarly, "cuts"),
    PLANT("C1", FlushWithoutBarrier, "cuts"),
    PLANT("C1", ChecksumsUnverified, "lives"),
    PLANT("C2", ReuseInSameLife, "cuts"),
    PLANT("C2", ReuseBeforeBarrier, "roll"),
    PLANT("C3", DirtyTailBeforeFlush, "cuts"),
    PLANT("C3", DirtyTailDespiteError, "lives"),
    PLANT("C3", MixedEpochs, "cuts"),
    PLANT("C3", NextEpochBeforeDirtyTail, "epochs are written back"),
    PLANT("C4", KeyTailPassesDirtyTail, "lives"),
    PLANT("C5", FreeLogSegmentAtOnce, "roll"),
    PLANT("C6", StoreOverNewestSlot, "memory"),
    PLANT("C6", StartTrustsPageCache, "start after a start that died, on memory"),
    PLANT("C7", ReclaimIgnoresGenerations, "old keys are passed"),
    PLANT("C7", StaleKeyLeavesOlderKeys, "newer key is freed"),
    PLANT("C7", ReplayIgnoresGenerations, "cuts"),
    PLANT("C8", IndexKeepsOlder, "lives"),
    PLANT("C8", FillBeatsOverwrite, "lives"),
    PLANT("C8", OldestWinsInBatch, "lives"),
    PLANT("C9", PersistErrorForgotten, "persists"),
    PLANT("C9", FlushIgnoresPersistError, "persists"),
    PLANT("C10", WriteWithoutLogSpace, "full"),
    PLANT("C11", ReclaimIgnoresWriters, "full"),
    PLANT("detach", SegmentsBeforeRecord, "detach discarding, on memory"),
    PLANT("attach", RecordBeforeLog, "attach a new image"),
    PLANT("growth", SizeBeforeRecord, "image grows"),
    PLANT("growth", SuperblockBeforeSegments, "cache device grows"),
    PLANT("around", ForgetWithoutBarrier, "modes"),
    PLANT("around", ProvisionalAtOnce, "modes"),
    PLANT("around", SwitchWithoutDrain, "lives"),
    PLANT("around", ProvisionalNeverVoid, "fill is dropped"),
    PLANT("pins", ReclaimIgnoresReaders, "reader is overtaken"),
    PLANT("incarnation", OldIncarnation, "log is overwritten"),
    PLANT("epochs", StartEndsNoEpoch, "writes follow a start"),
    PLANT("marks", LostMarksWithoutBarrier, "payload is lost"),
};

// Those that nothing is known to catch, in the time that a test has: holes in
// the simulator, until a hunt is found. --mutation=NAME --hunt=HUNT tries one.
constexpr std::array<Planting, 0> kOpen = {};
#undef PLANT

constexpr size_t kPlanted =
    static_cast<size_t>(Mutation::kCount) - 1;  // all but kNone
static_assert(std::size(kPlantings) + std::size(kOpen) == kPlanted);

double CpuSeconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

class MutationTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(kMutationsBuilt)
        << "This build has no mutations in it, like what users run: take "
           "--config=ci, or leave out -c opt.";
  }
  void TearDown() override { Plant(Mutation::kNone); }
};

TEST_F(MutationTest, EachIsCaught) {
  std::map<std::string, uint64_t> rounds_needed;  // by hunt
  int caught = 0;
  int planted = 0;
  std::vector<Planting> plantings;
  for (const Planting& planting : kPlantings) {
    if (FLAGS_mutation.empty() || FLAGS_mutation == planting.name) {
      plantings.push_back(planting);
    }
  }
  for (const Planting& planting : kOpen) {
    if (FLAGS_mutation == planting.name) plantings.push_back(planting);
  }
  ASSERT_FALSE(plantings.empty()) << "no mutation is " << FLAGS_mutation;
  for (const Planting& planting : plantings) {
    ++planted;
    const std::string hunt = FLAGS_hunt.empty() ? planting.hunt : FLAGS_hunt;
    const double began = CpuSeconds();
    Plant(planting.mutation);
    const Catch found = Hunt(hunt, FLAGS_rounds);
    Plant(Mutation::kNone);
    const std::string what =
        absl::StrCat(planting.rule, " ", planting.name, ": ");
    const double seconds = CpuSeconds() - began;
    rounds_needed[hunt] = std::max(rounds_needed[hunt], found.rounds);
    if (found.status.ok()) {
      ADD_FAILURE() << what << "not caught by hunt '" << hunt << "' in "
                    << found.rounds << " rounds, " << found.states
                    << " states, " << seconds << " s";
      continue;
    }
    ++caught;
    const std::string message(found.status.message());
    std::cout << what << "caught by " << hunt << ", round " << found.rounds
              << ", after " << found.states << " crash states, " << seconds
              << " s: " << message.substr(0, message.find('\n')) << std::endl;
  }
  std::cout << caught << " of " << planted << " mutations caught, "
            << std::size(kOpen) << " more are open\n";

  for (const auto& [hunt, rounds] : rounds_needed) {
    const double began = CpuSeconds();
    const Catch found = Hunt(hunt, rounds);
    std::cout << "none: " << hunt << " passes " << found.rounds << " rounds, "
              << found.states << " crash states, " << CpuSeconds() - began
              << " s" << std::endl;
    EXPECT_TRUE(found.status.ok()) << "without a mutation: " << found.status;
  }
}

}  // namespace
}  // namespace pcachefs

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  FLAGS_minloglevel = google::GLOG_FATAL;  // crashes are the daily bread here
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  return RUN_ALL_TESTS();
}
