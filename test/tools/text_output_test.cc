// What people see: tables and progress.

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tools/progress_bar.h"
#include "tools/text_table.h"

namespace pcachefs {
namespace {

TEST(TextTable, NumbersStandToTheRight) {
  TextTable table({"NAME", ">SIZE", "STATE"});
  table.AddRow({"vm1", "10G", "running"});
  table.AddRow({"database", "512M", ""});

  EXPECT_EQ(table.ToString(),
            "NAME      SIZE  STATE\n"
            "vm1        10G  running\n"
            "database  512M\n");
}

TEST(ProgressBar, ShowsRateAndTimeLeft) {
  EXPECT_EQ(ProgressBar::Line("drain", 1 << 20, 4 << 20, absl::Seconds(2)),
            "drain  [#######                       ]   25%  1M of 4M  512K/s  "
            "6s left");
}

TEST(ProgressBar, BearsNothingAndTooMuch) {
  EXPECT_EQ(ProgressBar::Line("drain", 0, 4 << 20, absl::ZeroDuration()),
            "drain  [                              ]    0%  0 of 4M");
  EXPECT_EQ(ProgressBar::Line("drain", 0, 0, absl::Seconds(1)),
            "drain  [##############################]  100%  0 of 0");
  EXPECT_EQ(ProgressBar::Line("drain", 9, 4, absl::Seconds(1)),
            "drain  [##############################]  100%  4 of 4  4/s  0s "
            "left");
}

}  // namespace
}  // namespace pcachefs
