// -o key=value: as mount(8), fstab and people write it.

#include "tools/mount_options.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(TakeMountOptions, TakesEveryForm) {
  std::vector<std::string> arguments = {"pcachefs",  "-o",      "a=1",
                                        "--cache=x", "-ob=2,c", "/mnt"};

  EXPECT_THAT(TakeMountOptions(arguments),
              IsOkAndHolds(ElementsAre("a=1", "b=2,c")));
  EXPECT_THAT(arguments, ElementsAre("pcachefs", "--cache=x", "/mnt"));
}

TEST(TakeMountOptions, LeavesFlagsThatBeginWithO) {
  std::vector<std::string> arguments = {"pcachefs", "-order=strict", "--",
                                        "-o"};

  EXPECT_THAT(TakeMountOptions(arguments), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(arguments, ElementsAre("pcachefs", "-order=strict", "--", "-o"));
}

TEST(TakeMountOptions, NeedsAValue) {
  std::vector<std::string> arguments = {"pcachefs", "-o"};
  EXPECT_THAT(TakeMountOptions(arguments),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(ParseMountOptions, ReadsSettings) {
  EXPECT_THAT(ParseMountOptions("cache=/c,threads=2,allow_other,gc_percent=50"),
              IsOkAndHolds(
                  ElementsAre(Pair("allow_other", "true"), Pair("cache", "/c"),
                              Pair("gc_percent", "50"), Pair("threads", "2"))));
}

TEST(ParseMountOptions, PassesOverWhatMountDealsWith) {
  EXPECT_THAT(ParseMountOptions(
                  "rw,nofail,_netdev,noauto,x-systemd.requires=a,,defaults,"
                  "user=me,X-a=b,comment=c,dev,suid"),
              IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(ParseMountOptions("ro"),
              IsOkAndHolds(ElementsAre(Pair("read_only", "true"))));
}

TEST(ParseMountOptions, ImagesAddUp) {
  EXPECT_THAT(ParseMountOptions("backing=a=/x,backing=b=/y\\,z"),
              IsOkAndHolds(ElementsAre(Pair("backing", "a=/x,b=/y\\,z"))));
}

TEST(ParseMountOptions, UnknownAndIncompleteOptionsAreRefused) {
  EXPECT_THAT(ParseMountOptions("cash=/c"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("unknown option 'cash'")));
  EXPECT_THAT(
      ParseMountOptions("cache"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("cache=PATH")));
}

}  // namespace
}  // namespace pcachefs
