// Modes and orders over a real mount: switched while fio writes blocks that carry
// checksums and reads them back, survived by a kill -9, and told by status.

#include <fcntl.h>

#include <memory>
#include <fcntl.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr const char* kModes[] = {"writethrough", "writeback",   "writearound",
                                  "writeonly",    "passthrough", "writeback"};
constexpr const char* kOrders[] = {"grouped", "relaxed", "strict"};

std::string ModeOf(const ServedCache& served) {
  const auto image = served.ImageStatus();
  return image.ok() ? image->value("mode", "") : image.status().ToString();
}

class ModesTest : public testing::Test {
 protected:
  void Switch(const std::string& setting) {
    EXPECT_THAT(served_.Control("set", {"disk", setting}), Succeeds());
  }
  // Image and backing device hold the same bytes.
  void ExpectSame() {
    ASSERT_THAT(served_.Control("drain"), Succeeds());
    EXPECT_THAT(RunCommand({"cmp", served_.image(), served_.backing()}),
                Succeeds());
  }

  ServedCache served_{{.backing_size = 64 * kMiB, .cache_size = "32M"}};
};

TEST_F(ModesTest, AllAreSwitchedUnderFio) {
  ASSERT_THAT(RequirePrograms({"fio", "cmp"}), IsOk());
  ASSERT_THAT(served_.Start(), IsOk());
  // Slow enough for a few rounds of switches.
  const auto fio = Process::Start(
      {"fio", "--name=modes", "--filename=" + served_.image(), "--randseed=7",
       "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=256",
       "--aux-path=" + served_.directory().path(), "--rw=randwrite",
       "--bsrange=512-64k", "--size=64M", "--direct=1", "--ioengine=libaio",
       "--iodepth=8", "--fsync=50", "--rate=8m"});
  ASSERT_THAT(fio, IsOk());
  int switches = 0;
  while (!(*fio)->WaitFor(absl::Milliseconds(100))) {
    const std::string mode = kModes[switches % 6];
    Switch(absl::StrCat("cache_mode=", mode));
    EXPECT_EQ(ModeOf(served_), mode);
    Switch(absl::StrCat("order=", kOrders[switches % 3]));
    ++switches;
    ASSERT_LT(switches, 10'000);
  }
  EXPECT_THAT((*fio)->outcome(), Succeeds());
  EXPECT_GE(switches, 6);

  Switch("cache_mode=writeback");
  ExpectSame();
  EXPECT_THAT(served_.Stop(), IsOk());
}

TEST_F(ModesTest, WritesAroundTheCacheSurviveAKill) {
  ASSERT_THAT(RequirePrograms({"cmp"}), IsOk());
  ASSERT_THAT(served_.Start(), IsOk());
  for (const char* mode : {"writethrough", "writearound", "passthrough"}) {
    {
      File file(served_.image(), O_RDWR);
      const std::string old(64 * 1024, 'o');
      ASSERT_EQ(file.Write(0, old), static_cast<ssize_t>(old.size()));
      ASSERT_EQ(file.Sync(), 0);
      Switch(absl::StrCat("cache_mode=", mode));
      const std::string fresh(5000, *mode);
      ASSERT_EQ(file.Write(100, fresh), 5000);
      ASSERT_EQ(file.Sync(), 0);
    }
    served_.Kill();
    ASSERT_THAT(served_.Start(), IsOk());
    EXPECT_EQ(ModeOf(served_), mode);
    std::string got(5002, '\0');
    File file(served_.image(), O_RDONLY);
    ASSERT_EQ(file.Read(99, absl::MakeSpan(got.data(), got.size())), 5002);
    EXPECT_EQ(got, "o" + std::string(5000, *mode) + "o");
    const auto image = served_.ImageStatus();
    ASSERT_THAT(image, IsOk());
    EXPECT_EQ(image->value("dirty_bytes", -1), 0);
    ExpectSame();
  }
  EXPECT_THAT(served_.Stop(), IsOk());
}

TEST_F(ModesTest, ANewImageStartsInTheModeAndOrderOfTheFlags) {
  served_.options().flags = {"--mode=writearound", "--order=grouped"};
  ASSERT_THAT(served_.Start(), IsOk());
  const auto image = served_.ImageStatus();
  ASSERT_THAT(image, IsOk());
  EXPECT_EQ(image->value("mode", ""), "writearound");
  EXPECT_EQ(image->value("next_mode", ""), "writearound");
  EXPECT_EQ(image->value("order", ""), "grouped");
  EXPECT_TRUE(image->value("backing_consistent", false));
  EXPECT_FALSE(image->value("group_in_flight", true));
  EXPECT_THAT(RunCommand({"sh", "-c",
                          "echo writethrough > " + served_.mount() +
                              "/.pcache/backing_dev0/cache_mode"}),
              Succeeds());
  EXPECT_EQ(ModeOf(served_), "writethrough");
  EXPECT_FALSE(served_.Control("set", {"disk", "cache_mode=fast"}).ok());
  EXPECT_THAT(served_.Stop(), IsOk());
}

}  // namespace
}  // namespace pcachefs
