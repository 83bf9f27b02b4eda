// Commands that cannot be meant as they are typed: exit code 2 and one line
// that names the flag; mountpoints that cannot be had: exit code 1. No file
// appears, nothing is mounted.

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class BadCommandTest : public testing::Test {
 protected:
  // A good command with these flags behind the others.
  Outcome Serve(const std::vector<std::string>& flags) {
    served_.options().flags = flags;
    return RunCommand(served_.Command(), absl::Seconds(30));
  }

  void ExpectNothingDone() {
    EXPECT_NE(access(served_.cache().c_str(), F_OK), 0) << "made a cache";
    EXPECT_FALSE(IsMounted(served_.mount()));
  }

  ServedCache served_{{.backing_size = kMiB * 64, .cache_size = "64M"}};
};

TEST_F(BadCommandTest, MistypedFlagIsNamed) {
  EXPECT_THAT(Serve({"--cach=/x"}),
              RefusesWith(2, AllOf(StartsWith("pcachefs: unknown flag"),
                                   HasSubstr("'--cach=/x'"),
                                   HasSubstr("see pcachefs --help"))));
  EXPECT_THAT(Serve({"--gcpercent=50"}),
              RefusesWith(2, HasSubstr("gcpercent")));
  EXPECT_THAT(Serve({"-o", "cach=/x"}), RefusesWith(2, HasSubstr("cach")));
  EXPECT_THAT(Serve({"-o", "gc_percent"}),
              RefusesWith(2, HasSubstr("gc_percent")));
  ExpectNothingDone();
}

TEST_F(BadCommandTest, WrongValueIsNamedWithItsFlag) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"gc_percent", "abc"},
      {"gc_percent", "95"},
      {"gc_percent", "-1"},
      {"mode", "writebak"},
      {"mode", ""},
      {"order", "stritc"},
      {"transport", "uring"},
      {"segment_size", "3M"},
      {"segment_size", "512K"},
      {"segment_size", "1G"},
      {"threads", "-3"},
      {"threads", "many"},
      {"max_dirty", "101%"},
      {"image_cache_size", "x"},
  };
  for (const auto& [flag, value] : wrong) {
    SCOPED_TRACE(flag + "=" + value);
    EXPECT_THAT(Serve({"--" + flag + "=" + value}),
                RefusesWith(2, HasSubstr(flag)));
    EXPECT_THAT(Serve({"-o", flag + "=" + value}),
                RefusesWith(2, HasSubstr(flag)));
  }
  ExpectNothingDone();
}

TEST_F(BadCommandTest, SizeOfZeroOrWithATypo) {
  for (const char* size : {"0", "0M", "64X", "64MM", "M", "-64M", "6 4M", "",
                           "1.5.5G", "99999999999999999999", "20000000T"}) {
    SCOPED_TRACE(size);
    EXPECT_THAT(Serve({std::string("--cache_size=") + size}),
                RefusesWith(2, HasSubstr("cache_size")));
  }
  ExpectNothingDone();
}

TEST_F(BadCommandTest, MissingOrTooManyArguments) {
  EXPECT_THAT(RunCommand({PcachefsPath()}), RefusesWith(2, testing::_));
  EXPECT_THAT(RunCommand({PcachefsPath(), served_.mount()}),
              RefusesWith(2, HasSubstr("--cache")));
  EXPECT_THAT(
      RunCommand({PcachefsPath(), "--cache=" + served_.cache(),
                  "--cache_size=64M", "--backing=disk=" + served_.backing()}),
      RefusesWith(2, HasSubstr("mountpoint")));
  EXPECT_THAT(Serve({served_.mount()}), RefusesWith(2, testing::_));
  ExpectNothingDone();
}

TEST_F(BadCommandTest, WrongBacking) {
  const std::vector<std::string> wrong = {
      "",
      "disk",
      "disk=",
      "=" + served_.backing(),
      "a/b=" + served_.backing(),
      ".hidden=" + served_.backing(),
      "..=" + served_.backing(),
      std::string(64, 'n') + "=" + served_.backing(),
      "disk=" + served_.backing() + ",disk=" + served_.backing(),
  };
  for (const std::string& backing : wrong) {
    EXPECT_THAT(RunCommand({PcachefsPath(), "--cache=" + served_.cache(),
                            "--cache_size=64M", "--backing=" + backing,
                            served_.mount()},
                           absl::Seconds(30)),
                RefusesWith(2, HasSubstr("backing")));
  }
  ExpectNothingDone();
}

TEST_F(BadCommandTest, MountpointIsMissing) {
  const std::string missing = served_.directory().File("no_such_directory");

  EXPECT_THAT(RunCommand({PcachefsPath(), "--cache=" + served_.cache(),
                          "--cache_size=64M",
                          "--backing=disk=" + served_.backing(), missing},
                         absl::Seconds(30)),
              RefusesWith(1, HasSubstr(missing)));
  ExpectNothingDone();
}

TEST_F(BadCommandTest, MountpointIsAFile) {
  const std::string file = served_.directory().File("file");
  MakeFile(file, 10);

  EXPECT_THAT(RunCommand({PcachefsPath(), "--cache=" + served_.cache(),
                          "--cache_size=64M",
                          "--backing=disk=" + served_.backing(), file},
                         absl::Seconds(30)),
              RefusesWith(1, HasSubstr(file)));
  ExpectNothingDone();
}

TEST_F(BadCommandTest, MountpointIsBusy) {
  ServedCache other({.backing_size = 64 * kMiB});
  ASSERT_THAT(other.Start(), IsOk());
  ASSERT_THAT(WritePattern(other.image(), 1, 0, kMiB), IsOk());

  EXPECT_THAT(RunCommand({PcachefsPath(), "--cache=" + served_.cache(),
                          "--cache_size=64M",
                          "--backing=disk=" + served_.backing(), other.mount()},
                         absl::Seconds(30)),
              RefusesWith(1, HasSubstr(other.mount())));

  ExpectNothingDone();
  EXPECT_THAT(CheckPattern(other.image(), 1, 0, kMiB), IsOk());
  EXPECT_THAT(other.Stop(), IsOk());
  EXPECT_FALSE(IsMounted(other.mount()));
}

// What kill -9 leaves; the refusal says how to get on.
TEST_F(BadCommandTest, MountOfADeadDaemonIsRefusedWithTheCure) {
  ASSERT_THAT(served_.Start(), IsOk());
  served_.Kill();

  EXPECT_THAT(RunCommand(served_.Command(), absl::Seconds(30)),
              RefusesWith(1, HasSubstr("umount " + served_.mount())));

  ASSERT_THAT(RunCommand({"umount", served_.mount()}), Succeeds());
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

// In the foreground the log is on stderr too, but the reason is there.
TEST_F(BadCommandTest, RefusesInTheForegroundToo) {
  ASSERT_EQ(unlink(served_.backing().c_str()), 0);

  const Outcome outcome = Serve({"--foreground"});

  EXPECT_THAT(outcome, ExitsWith(1));
  EXPECT_THAT(outcome.err, HasSubstr(served_.backing()));
  ExpectNothingDone();
}

TEST_F(BadCommandTest, ControlRefusesWhatItDoesNotKnow) {
  const std::string control = PcachectlPath();
  EXPECT_THAT(RunCommand({control}), RefusesWith(2, testing::_));
  EXPECT_THAT(RunCommand({control, "statsu", "/"}),
              RefusesWith(2, HasSubstr("statsu")));
  EXPECT_THAT(RunCommand({control, "status"}),
              RefusesWith(2, HasSubstr("MOUNT")));
  EXPECT_THAT(RunCommand({control, "status", "/", "--jsno"}),
              RefusesWith(2, AllOf(StartsWith("pcachectl: unknown flag"),
                                   HasSubstr("'--jsno'"),
                                   HasSubstr("--help"))));
  EXPECT_THAT(RunCommand({control, "format", served_.cache(), "--size=0"}),
              RefusesWith(2, HasSubstr("size")));
  EXPECT_THAT(RunCommand({control, "format", served_.cache(), "--size=64Q"}),
              RefusesWith(2, HasSubstr("size")));
  ExpectNothingDone();
}

TEST_F(BadCommandTest, ControlOfWhatIsNotServed) {
  for (const char* verb : {"status", "list", "flush", "drain", "stop"}) {
    SCOPED_TRACE(verb);
    EXPECT_THAT(served_.Control(verb),
                RefusesWith(1, HasSubstr(served_.mount())));
  }
  ASSERT_THAT(served_.Start(), IsOk());
  for (const char* verb : {"status", "flush", "drain"}) {
    SCOPED_TRACE(verb);
    EXPECT_THAT(served_.Control(verb, {"nodisk"}),
                RefusesWith(1, HasSubstr("nodisk'; there is disk")));
  }
  for (const char* assignment : {"nokey", "nokey=1"}) {
    EXPECT_THAT(served_.Control(strchr(assignment, '=') ? "set" : "get",
                                {"disk", assignment}),
                RefusesWith(2, AllOf(HasSubstr("unknown key 'nokey'"),
                                     HasSubstr("gc_percent, cache_mode"))));
  }
}

// Bytes are integers in JSON, whatever a setting is.
TEST_F(BadCommandTest, SettingsAreNumbersInJson) {
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(
      served_.Control("set", {"disk", "max_dirty=8M", "--json"}).out,
      HasSubstr(R"("values":{"max_dirty":8388608})"));
  EXPECT_THAT(served_.Control("get", {"disk", "--json"}).out,
              AllOf(HasSubstr(R"("max_dirty":8388608)"),
                    HasSubstr(R"("cache_mode":"writeback")")));
}

TEST_F(BadCommandTest, AFileTooSmallForACacheIsRefusedWithTheCure) {
  MakeFile(served_.cache(), 6);
  EXPECT_THAT(RunCommand(served_.Command()),
              RefusesWith(1, AllOf(HasSubstr("6 bytes are too small"),
                                   HasSubstr("give --cache_size"))));
}

TEST_F(BadCommandTest, HelpAndVersionAreNoErrors) {
  for (const std::string& program : {PcachefsPath(), PcachectlPath()}) {
    const Outcome help = RunCommand({program, "--help"});
    EXPECT_THAT(help, Succeeds());
    EXPECT_THAT(help.out, HasSubstr("pcache"));
    const Outcome version = RunCommand({program, "--version"});
    EXPECT_THAT(version, Succeeds());
    EXPECT_THAT(version.out,
                AllOf(HasSubstr("pcache"), HasSubstr("commit "),
                      HasSubstr("libfuse "), HasSubstr("liburing "),
                      HasSubstr("transport ")));
  }
}

}  // namespace
}  // namespace pcachefs
