// What people look at: doctor, explain, map, top, and the help that is made
// from the verbs' own table.

#include <fcntl.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "nlohmann/json.hpp"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class InspectTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_THAT(served_.Start(), IsOk()); }

  nlohmann::json Json(const std::string& verb,
                      std::vector<std::string> arguments) {
    arguments.push_back("--json");
    const Outcome outcome = served_.Control(verb, arguments);
    return nlohmann::json::parse(outcome.out, nullptr, false);
  }

  // 4 MiB, of which all but the first write stays dirty for minutes: that one,
  // of a MiB at most, may be written back at once, and is all that may be.
  void WriteDirty() {
    ASSERT_THAT(served_.Control("set", {"disk", "writeback_rate=4K"}),
                Succeeds());
    ASSERT_THAT(WritePattern(served_.image(), 1, 0, 4 * kMiB), IsOk());
  }

  ServedCache served_{{.backing_size = 64 * kMiB}};
};

TEST_F(InspectTest, ExplainTellsDirtyFromCleanFromElsewhere) {
  ASSERT_NO_FATAL_FAILURE(WriteDirty());
  auto place = Json("explain", {"disk", "3900K"});
  EXPECT_EQ(place.value("kind", ""), "cached");
  EXPECT_TRUE(place.value("dirty", false));
  EXPECT_EQ(place.value("checksum", ""), "ok");
  ASSERT_THAT(served_.Control("drain"), Succeeds());
  place = Json("explain", {"disk", "0"});
  EXPECT_FALSE(place.value("dirty", true));
  const Outcome elsewhere = served_.Control("explain", {"disk", "32M"});
  EXPECT_THAT(elsewhere, Succeeds());
  EXPECT_THAT(elsewhere.out, HasSubstr("not in the cache"));
}

TEST_F(InspectTest, ExplainRefusesWhatIsNotThere) {
  EXPECT_THAT(served_.Control("explain", {"disk", "64M"}),
              RefusesWith(1, HasSubstr("want less than its size")));
  EXPECT_THAT(served_.Control("explain", {"none", "0"}),
              RefusesWith(1, HasSubstr("none")));
  EXPECT_THAT(served_.Control("explain", {"disk", "x"}),
              RefusesWith(2, HasSubstr("got 'x'")));
}

TEST_F(InspectTest, ARecordedRunIsPlotted) {
  ASSERT_THAT(WritePattern(served_.image(), 1, 0, kMiB), IsOk());
  const std::string record = served_.directory().File("run.json");
  // Interrupted, as people do.
  EXPECT_THAT(
      RunCommand({"bash", "-c",
                  absl::StrCat("timeout 3 ", PcachectlPath(), " stats ",
                               served_.mount(), " --watch --json >", record,
                               " & sleep 1; cat ", served_.image(),
                               " >/dev/null; wait $!; [ $? = 124 ]")}),
      Succeeds());
  const std::string picture = served_.directory().File("run.svg");

  EXPECT_THAT(RunCommand({PcachectlPath(), "plot", record, "disk",
                          "--output=" + picture}),
              Succeeds());

  EXPECT_THAT(ContentOf(picture),
              AllOf(HasSubstr("disk: hit ratio"), HasSubstr("<polyline")));
  EXPECT_THAT(RunCommand({PcachectlPath(), "plot", served_.backing(),
                          "--output=" + picture}),
              RefusesWith(2, HasSubstr("stats MOUNT --watch --json")));
  EXPECT_THAT(RunCommand({PcachectlPath(), "plot", record, "--output=x"}),
              RefusesWith(2, HasSubstr(".svg")));
}

TEST_F(InspectTest, MapShowsWhereTheDataIs) {
  ASSERT_NO_FATAL_FAILURE(WriteDirty());
  const auto map = Json("map", {"disk"});
  ASSERT_TRUE(map.contains("cells"));
  uint64_t dirty = 0;
  for (const auto& cell : map["cells"]) dirty += cell.value("dirty", 0u);
  EXPECT_LE(dirty, 4 * kMiB);
  EXPECT_GE(dirty, 3 * kMiB);
  const Outcome text = served_.Control("map", {"disk"});
  EXPECT_THAT(text, Succeeds());
  EXPECT_THAT(text.out, AllOf(HasSubstr("DDDD"), HasSubstr("....")));

  const std::string picture = served_.directory().File("map.svg");
  EXPECT_THAT(served_.Control("map", {"disk", "--output=" + picture}),
              Succeeds());
  EXPECT_THAT(ContentOf(picture), HasSubstr("</svg>"));
  EXPECT_THAT(served_.Control("map", {"disk", "--output=x.gif"}),
              RefusesWith(2, HasSubstr(".svg")));
}

TEST_F(InspectTest, TopShowsEveryImage) {
  const Outcome outcome = served_.Control("top", {"--count=1"});
  EXPECT_THAT(outcome, Succeeds());
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("disk"), HasSubstr("running")));
  EXPECT_THAT(served_.Control("top", {"--count=0"}),
              RefusesWith(2, HasSubstr("--count")));
}

TEST_F(InspectTest, DoctorLooksAtTheMount) {
  const auto report = Json("doctor", {});
  ASSERT_TRUE(report.contains("findings"));
  std::string subjects;
  for (const auto& finding : report["findings"]) {
    subjects += finding.value("subject", "") + "\n";
  }
  for (const char* subject :
       {"kernel", "fuse", "io_uring", "transport", "memlock", "io_flusher",
        "memory_locked", "cache", "state of disk"}) {
    EXPECT_THAT(subjects, HasSubstr(subject));
  }
}

TEST(HelpTest, TheOverviewAndTheManualKnowTheSameVerbs) {
  const Outcome manual = RunCommand({PcachectlPath(), "generate",
                                     "man-pcachectl"});
  ASSERT_THAT(manual, Succeeds());
  for (const char* verb : {"status", "doctor", "explain", "map", "top"}) {
    EXPECT_THAT(manual.out, HasSubstr(absl::StrCat(".SS ", verb, " ")));
  }
  EXPECT_THAT(RunCommand({PcachectlPath(), "generate", "fish"}),
              RefusesWith(2, HasSubstr("want man-pcachefs")));
}

}  // namespace
}  // namespace pcachefs
