#include "tools/config_file.h"

#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

constexpr char kNeeded[] = "cache = /c\nmountpoint = /mnt\n";

ConfigFile Parse(const std::string& text) {
  return ParseConfigFile("F", kNeeded + text);
}

TEST(ConfigFile, ReadsKeysCommentsAndSpace) {
  const ConfigFile file =
      Parse("# c\n\n  gc_percent=60  \r\n\tallow_other = true\n#x = y");
  EXPECT_THAT(file.errors, IsEmpty());
  EXPECT_THAT(file.values,
              ElementsAre(Pair("allow_other", "true"), Pair("cache", "/c"),
                          Pair("gc_percent", "60"),
                          Pair("mountpoint", "/mnt")));
}

TEST(ConfigFile, ImagesAddUp) {
  const ConfigFile file =
      Parse("backing = a=/a,b=/b\nbacking = c=/with space=and\\,comma\n");
  EXPECT_THAT(file.errors, IsEmpty());
  EXPECT_EQ(file.values.at("backing"),
            "a=/a,b=/b,c=/with space=and\\,comma");
}

TEST(ConfigFile, EveryErrorHasItsLine) {
  const ConfigFile file =
      Parse("gc_percent = x\nno_such = 1\ncache = /d\nword\nmode = fast\n");
  EXPECT_THAT(
      file.errors,
      ElementsAre(HasSubstr("F:3: gc_percent: got 'x'"),
                  HasSubstr("F:4: unknown key 'no_such'"),
                  HasSubstr("F:5: cache: is there already"),
                  HasSubstr("F:6: got 'word', want KEY = VALUE"),
                  HasSubstr("F:7: mode: ")));
}

TEST(ConfigFile, WhatIsMissingIsNamed) {
  EXPECT_THAT(ParseConfigFile("F", "").errors,
              ElementsAre("F: cache is missing", "F: mountpoint is missing"));
  EXPECT_THAT(
      ParseConfigFile("F", "cache = /c\nmountpoint = mnt\n").errors,
      ElementsAre(HasSubstr("want an absolute path"),
                  "F: mountpoint is missing"));
}

TEST(ConfigFile, AnImageTwiceIsSeenOverTheLines) {
  EXPECT_THAT(Parse("backing = a=/a\nbacking = a=/b\n").errors,
              ElementsAre(HasSubstr("backing: ")));
}

TEST(ConfigFile, FilesThatAreNone) {
  EXPECT_THAT(ReadConfigFile("/no/such"),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("config /no/such")));
  EXPECT_THAT(ReadConfigFile("/dev/zero"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("at most")));
  EXPECT_FALSE(ReadConfigFile("/").ok());
}

}  // namespace
}  // namespace pcachefs
