// Gets dirty data out with only the cache and the backing device at hand.

#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "nlohmann/json.hpp"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class OfflineWritebackTest : public testing::Test {
 protected:
  // The daemon dies while data is dirty.
  void SetUp() override {
    ASSERT_THAT(served_.Start(), IsOk());
    ASSERT_THAT(WritePattern(served_.image(), 1, 0, served_.size()), IsOk());
    served_.Kill();
    ASSERT_THAT(RunCommand({"umount", served_.mount()}), Succeeds());
  }
  Outcome WriteBack(std::vector<std::string> arguments = {"disk"}) {
    arguments.insert(arguments.begin(),
                     {PcachectlPath(), "writeback", served_.cache()});
    return RunCommand(arguments);
  }

  ServedCache served_{{.backing_size = 64 * kMiB}};
};

TEST_F(OfflineWritebackTest, BringsEverythingToTheBackingDevice) {
  const Outcome outcome = WriteBack({"disk", "--json"});

  ASSERT_THAT(outcome, Succeeds());
  const auto json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["backing"], served_.backing());
  EXPECT_TRUE(json["written_bytes"].is_number_unsigned());
  EXPECT_THAT(CheckPattern(served_.backing(), 1, 0, served_.size()), IsOk());
  EXPECT_THAT(RunCommand({PcachectlPath(), "check", served_.cache()}),
              Succeeds());
  // Again: nothing to do. And the image is served as before.
  EXPECT_THAT(WriteBack(), Succeeds());
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 1, 0, served_.size()), IsOk());
}

TEST_F(OfflineWritebackTest, FollowsADeviceThatWasMoved) {
  const std::string moved = served_.directory().File("moved.img");
  ASSERT_EQ(rename(served_.backing().c_str(), moved.c_str()), 0);

  EXPECT_THAT(WriteBack(), RefusesWith(1, HasSubstr(served_.backing())));
  EXPECT_THAT(WriteBack({"disk", moved}), Succeeds());

  EXPECT_THAT(CheckPattern(moved, 1, 0, served_.size()), IsOk());
}

TEST_F(OfflineWritebackTest, ACopyTakesThePlaceOnlyByForce) {
  const std::string copy = served_.directory().File("copy.img");
  ASSERT_THAT(RunCommand({"cp", served_.backing(), copy}), Succeeds());
  const std::string other_size = served_.directory().File("other.img");
  MakeFile(other_size, 32 * kMiB);

  EXPECT_THAT(WriteBack({"disk", copy}),
              RefusesWith(1, AllOf(HasSubstr(copy), HasSubstr("--force"))));
  EXPECT_THAT(WriteBack({"disk", other_size, "--force"}),
              RefusesWith(1, HasSubstr("33554432")));
  EXPECT_THAT(WriteBack({"disk", copy, "--force"}), Succeeds());

  EXPECT_THAT(CheckPattern(copy, 1, 0, served_.size()), IsOk());
  // What was lost, or only seemed so, must not come back beside it.
  EXPECT_THAT(RunCommand(served_.Command()), RefusesWith(1, HasSubstr(copy)));
}

TEST_F(OfflineWritebackTest, WhatCannotBeDoneIsSaid) {
  EXPECT_THAT(WriteBack({"nobody"}),
              RefusesWith(1, AllOf(HasSubstr("nobody"), HasSubstr("disk"))));
  EXPECT_THAT(WriteBack({}), RefusesWith(2, HasSubstr("writeback")));
  EXPECT_THAT(RunCommand({PcachectlPath(), "writeback", served_.backing(),
                          "disk"}),
              RefusesWith(1, HasSubstr("not a pcachefs cache")));
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(WriteBack(), RefusesWith(1, HasSubstr("in use by process")));
}

}  // namespace
}  // namespace pcachefs
