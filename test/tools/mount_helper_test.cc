#include "tools/mount_helper.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kName[] = "/sbin/mount.pcachefs";

TEST(MountHelper, IsKnownByItsName) {
  EXPECT_TRUE(IsMountHelper("/sbin/mount.pcachefs"));
  EXPECT_TRUE(IsMountHelper("mount.fuse.pcachefs"));
  EXPECT_FALSE(IsMountHelper("/usr/bin/pcachefs"));
  EXPECT_FALSE(IsMountHelper("/mount.d/pcachefs"));
}

TEST(MountHelper, TranslatesWhatMountSays) {
  const auto call = TranslateMountHelperCall(
      {kName, "/fast/cache", "/mnt/x", "-v", "-o", "rw,backing=a=/b"});
  ASSERT_THAT(call, IsOk());
  EXPECT_FALSE(call->is_fake);
  EXPECT_THAT(call->arguments,
              ElementsAre(kName, "--cache=/fast/cache", "-o",
                          "rw,backing=a=/b", "--", "/mnt/x"));
}

TEST(MountHelper, KnowsTheSwitchesOfMount) {
  const auto call = TranslateMountHelperCall({kName, "-sfn", "/c", "/d", "-t",
                                              "pcachefs", "-N", "/proc/1/ns"});
  ASSERT_THAT(call, IsOk());
  EXPECT_TRUE(call->is_fake);
  EXPECT_THAT(call->arguments, ElementsAre(kName, "--cache=/c", "--", "/d"));
}

TEST(MountHelper, RefusesEverythingElse) {
  const std::vector<std::vector<std::string>> kBad = {
      {kName},
      {kName, "/c"},
      {kName, "/c", "/d", "/e"},
      {kName, "/c", "/d", "-o"},
      {kName, "/c", "/d", "-x"},
      {kName, "/c", "/d", "--help"}};
  for (const auto& arguments : kBad) {
    EXPECT_THAT(TranslateMountHelperCall(arguments),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("want: mount.pcachefs CACHE DIRECTORY")));
  }
}

}  // namespace
}  // namespace pcachefs
