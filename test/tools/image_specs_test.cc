// NAME=SPEC lists.

#include "tools/image_specs.h"

#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SplitWords, CommasCanBeEscaped) {
  EXPECT_THAT(SplitWords("a,b"), ElementsAre("a", "b"));
  EXPECT_THAT(SplitWords("a\\,b,c\\\\"), ElementsAre("a,b", "c\\"));
  EXPECT_THAT(SplitWords(""), ElementsAre(""));
  EXPECT_THAT(SplitWords(",a,"), ElementsAre("", "a", ""));
}

TEST(ParseImageSpecs, ReadsNamesAndPaths) {
  EXPECT_THAT(ParseImageSpecs("vm1=/dev/vg0/vm1,vm2=/srv/a=b.img"),
              IsOkAndHolds(ElementsAre(ImageSpec{"vm1", "/dev/vg0/vm1"},
                                       ImageSpec{"vm2", "/srv/a=b.img"})));
}

TEST(ParseImageSpecs, MakesPathsAbsolute) {
  const std::string here = std::filesystem::current_path().string();
  EXPECT_THAT(ParseImageSpecs("vm1=./a/../b.img"),
              IsOkAndHolds(ElementsAre(ImageSpec{"vm1", here + "/b.img"})));
}

TEST(ParseImageSpecs, RefusesWhatIsNoList) {
  for (const char* text :
       {"", "vm1", "vm1=", "=/x", "vm1=/x,", ".vm=/x", "a/b=/x", "a b=/x"}) {
    EXPECT_THAT(ParseImageSpecs(text),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << text;
  }
  EXPECT_THAT(ParseImageSpecs("a=/x,a=/y"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("a is named twice")));
}

TEST(ParseImageSpecs, NetworkBlockDevicesStayAsTheyAre) {
  for (const std::string spec : {"nbd://host/x", "nbd+unix:///x?socket=/s",
                                 "nbds://user@host:1/", "nbds+unix://?socket=s"}) {
    const auto images = ParseImageSpecs("a=" + spec + ",b=/x");
    ASSERT_THAT(images, IsOk());
    EXPECT_EQ(images->front().spec, spec);
  }
}

}  // namespace
}  // namespace pcachefs
