// Sizes: what people write is understood, everything else is refused.

#include "meta/size_parser.h"

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;

TEST(ParseSize, TakesLettersInPowersOf1024) {
  EXPECT_THAT(ParseSize("1"), IsOkAndHolds(1u));
  EXPECT_THAT(ParseSize("512"), IsOkAndHolds(512u));
  EXPECT_THAT(ParseSize("4K"), IsOkAndHolds(4096u));
  EXPECT_THAT(ParseSize("16m"), IsOkAndHolds(16u << 20));
  EXPECT_THAT(ParseSize("3G"), IsOkAndHolds(uint64_t{3} << 30));
  EXPECT_THAT(ParseSize("2T"), IsOkAndHolds(uint64_t{2} << 40));
  EXPECT_THAT(ParseSize("2GiB"), IsOkAndHolds(uint64_t{2} << 30));
  EXPECT_THAT(ParseSize("2GB"), IsOkAndHolds(uint64_t{2} << 30));
  EXPECT_THAT(ParseSize("8388607T"), IsOkAndHolds(uint64_t{8388607} << 40));
}

TEST(ParseSize, RefusesEverythingElse) {
  for (const char* text : {"",
                           "0",
                           "00",
                           "0G",
                           "G",
                           "-1",
                           "+1",
                           " 1",
                           "1 ",
                           "1.5G",
                           "1X",
                           "10GG",
                           "1Gi",
                           "1e3",
                           "0x10",
                           "1,5",
                           "8388608T",
                           "9223372036854775808",
                           "18446744073709551616",
                           "99999999999999999999G",
                           "ten",
                           "10M10"}) {
    EXPECT_THAT(ParseSize(text),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(std::string("got '") + text + "', want")))
        << text;
  }
}

TEST(FormatSize, HasOneDigitAtMost) {
  EXPECT_EQ(FormatSize(0), "0");
  EXPECT_EQ(FormatSize(1023), "1023");
  EXPECT_EQ(FormatSize(1024), "1K");
  EXPECT_EQ(FormatSize(1536), "1.5K");
  EXPECT_EQ(FormatSize(uint64_t{10} << 30), "10G");
  EXPECT_EQ(FormatSize(uint64_t{3} << 50), "3072T");
}

TEST(ParseSizeOrPercent, TakesBoth) {
  const auto half = ParseSizeOrPercent("50%");
  ASSERT_THAT(half, IsOk());
  EXPECT_EQ(half->Of(2000), 1000u);
  const auto size = ParseSizeOrPercent("64M");
  ASSERT_THAT(size, IsOk());
  EXPECT_EQ(size->Of(2000), 64u << 20);
  for (const char* bad : {"", "%", "0%", "101%", "-5%", "5 %", "x%", "0"}) {
    EXPECT_THAT(ParseSizeOrPercent(bad),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << bad;
  }
}

}  // namespace
}  // namespace pcachefs
