// A trace is read as written, and a bad line is named.

#include "tools/simulation/trace.h"

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"
#include "tools/simulation/trace_generator.h"

namespace pcachefs {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(ParseTrace, ReadsRequests) {
  EXPECT_THAT(
      ParseTrace("time,offset,length,kind\n# idle\n\n0,4096,512,read\n"
                 "1.5,0,8192, write\r\n",
                 "t"),
      IsOkAndHolds(ElementsAre(
          TraceRequest{.time = 0, .offset = 4096, .length = 512},
          TraceRequest{
              .time = 1.5, .offset = 0, .length = 8192, .is_write = true})));
}

TEST(ParseTrace, NamesTheBadLine) {
  const auto bad = [](const char* text, const char* want) {
    EXPECT_THAT(ParseTrace(text, "vm.csv"),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(StartsWith("vm.csv:2: "), HasSubstr(want))))
        << text;
  };
  bad("0,0,1,read\n1,2,3\n", "want time,offset,length,read|write");
  bad("0,0,1,read\n1,2,3,4,5\n", "want time,offset,length,read|write");
  bad("0,0,1,read\nx,0,1,read\n", "time: got \"x\"");
  bad("5,0,1,read\n4,0,1,read\n", "at least 5");
  bad("0,0,1,read\nnan,0,1,read\n", "time");
  bad("0,0,1,read\n1,-1,1,read\n", "offset: got \"-1\"");
  bad("0,0,1,read\n1,0,0,read\n", "length: got \"0\"");
  bad("0,0,1,read\n1,0,1,trim\n", "want read or write");
  bad("0,0,1,read\n1,99999999999999999999,1,read\n", "offset");
}

TEST(ParseTrace, RefusesATraceOfNothing) {
  EXPECT_THAT(ParseTrace("# nothing\n", "vm.csv"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("vm.csv: got no requests")));
}

TEST(GenerateTrace, IsTheSameForTheSameSeed) {
  for (const char* name : {"zipf_scan", "shifting"}) {
    const GeneratorOptions options = {.requests = 1000, .hot_bytes = 1 << 22};
    GeneratorOptions other = options;
    other.seed = 2;
    const auto trace = GenerateTrace(name, options);
    ASSERT_THAT(trace, IsOk());
    EXPECT_GE(trace->size(), 1000u);
    EXPECT_THAT(GenerateTrace(name, options), IsOkAndHolds(*trace));
    EXPECT_NE(*GenerateTrace(name, other), *trace);
    EXPECT_THAT(ParseTrace(FormatTrace(*trace), "again"), IsOk());
  }
  EXPECT_THAT(GenerateTrace("lifo", {}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace pcachefs
