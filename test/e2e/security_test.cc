// What docs/threat_model.md says of the running daemon: its privileges, and
// what other users of the machine may do.

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"
#include "tools/privileges.h"

namespace pcachefs {
namespace {

constexpr uid_t kNobody = 65534;

// A number of /proc/PID/task/TID/status.
uint64_t OfTask(const std::string& task, const std::string& name) {
  std::ifstream status(task + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name + ":", 0) == 0) {
      return std::strtoull(line.c_str() + name.size() + 1, nullptr, 16);
    }
  }
  ADD_FAILURE() << task << " has no " << name;
  return ~uint64_t{0};
}

// The errno of `open` by nobody, in a process of its own; 0 if it may.
int OpenAsNobody(const std::string& path, int flags) {
  const pid_t child = fork();
  if (child == 0) {
    if (setgid(kNobody) != 0 || setuid(kNobody) != 0) _exit(255);
    _exit(open(path.c_str(), flags | O_CLOEXEC, 0600) >= 0 ? 0 : errno);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

class SecurityTest : public testing::Test {
 protected:
  SecurityTest() {
    // Down to the mount everybody may look, so that what refuses is the mount.
    std::filesystem::permissions(served_.directory().path(),
                                 std::filesystem::perms(0755));
  }
  std::string Control(const std::string& name) {
    return served_.mount() + "/.pcache/" + name;
  }

  ServedCache served_{{.backing_size = 16 * kMiB}};
};

TEST_F(SecurityTest, NoThreadHasMorePrivilegesThanItNeeds) {
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_THAT(WritePattern(served_.image(), 1, 0, kMiB), IsOk());

  int tasks = 0;
  for (const auto& task : std::filesystem::directory_iterator(
           absl::StrCat("/proc/", served_.pid(), "/task"))) {
    for (const char* set : {"CapEff", "CapPrm", "CapBnd"}) {
      EXPECT_EQ(OfTask(task.path(), set) & ~KeptCapabilities(), 0u)
          << task.path() << " " << set;
    }
    EXPECT_EQ(OfTask(task.path(), "CapInh"), 0u);
    EXPECT_EQ(OfTask(task.path(), "NoNewPrivs"), 1u);
    ++tasks;
  }
  EXPECT_GT(tasks, 5);
  const auto status = served_.Status();
  ASSERT_THAT(status, IsOk());
  // Marked before it was given up, if it was there.
  constexpr uint64_t kSysResource = uint64_t{1} << 24;
  EXPECT_EQ((*status)["server"]["io_flusher"],
            (OfTask("/proc/self", "CapEff") & kSysResource) != 0);
}

// What it still needs them for.
TEST_F(SecurityTest, FilesOfOthersAreAttachedAndTheMountGoes) {
  served_.options().flags = {"--image_cache_size=48M"};
  const std::string other = served_.directory().File("other.img");
  MakeFile(other, 16 * kMiB);
  ASSERT_EQ(chown(other.c_str(), kNobody, kNobody), 0);
  ASSERT_EQ(chmod(other.c_str(), 0600), 0);
  ASSERT_THAT(served_.Start(), IsOk());

  ASSERT_THAT(served_.Control("attach", {"other", other}), Succeeds());
  const std::string image = served_.mount() + "/other";
  ASSERT_THAT(WritePattern(image, 1, 0, 16 * kMiB), IsOk());
  ASSERT_THAT(served_.Control("detach", {"other", "--drain"}), Succeeds());
  EXPECT_THAT(CheckPattern(other, 1, 0, 16 * kMiB), IsOk());

  EXPECT_THAT(served_.Stop(), IsOk());
  EXPECT_FALSE(IsMounted(served_.mount()));
}

TEST_F(SecurityTest, OtherUsersSeeNothing) {
  ASSERT_THAT(served_.Start(), IsOk());

  EXPECT_EQ(OpenAsNobody(served_.mount(), O_RDONLY), EACCES);
  EXPECT_EQ(OpenAsNobody(served_.image(), O_RDONLY), EACCES);
  EXPECT_EQ(OpenAsNobody(Control("status.json"), O_RDONLY), EACCES);
  EXPECT_EQ(OpenAsNobody(Control("control"), O_RDWR), EACCES);
  EXPECT_EQ(OpenAsNobody(served_.cache(), O_RDONLY), EACCES);
}

TEST_F(SecurityTest, AllowOtherLetsInAsTheModesSay) {
  served_.options().flags = {"--allow_other"};
  ASSERT_THAT(served_.Start(), IsOk());

  EXPECT_EQ(OpenAsNobody(served_.mount(), O_RDONLY), 0);
  EXPECT_EQ(OpenAsNobody(Control("status.json"), O_RDONLY), 0);
  EXPECT_EQ(OpenAsNobody(served_.image(), O_RDONLY), EACCES);
  EXPECT_EQ(OpenAsNobody(served_.image(), O_WRONLY), EACCES);
  EXPECT_EQ(OpenAsNobody(Control("control"), O_RDONLY), EACCES);
  EXPECT_EQ(OpenAsNobody(Control("control"), O_RDWR), EACCES);
  EXPECT_EQ(OpenAsNobody(Control("backing_dev0/cache_gc_percent"), O_WRONLY),
            EACCES);
  EXPECT_EQ(OpenAsNobody(served_.mount() + "/new", O_WRONLY | O_CREAT), EACCES);
  // An image is given to somebody by its mode.
  ASSERT_EQ(chown(served_.image().c_str(), kNobody, kNobody), 0);
  EXPECT_EQ(OpenAsNobody(served_.image(), O_RDWR), 0);
}

TEST_F(SecurityTest, WhatIsWrittenToControlIsBounded) {
  ASSERT_THAT(served_.Start(), IsOk());
  File control(Control("control"), O_RDWR);
  ASSERT_GE(control.fd(), 0);
  const std::string large(4 * kMiB, ' ');
  EXPECT_LT(write(control.fd(), large.data(), large.size()), 0);
  const std::string nested(30'000, '[');
  const std::string request =
      R"({"verb":"get","name":)" + nested + std::string(nested.size(), ']') +
      "}";
  EXPECT_EQ(write(control.fd(), request.data(), request.size()),
            static_cast<ssize_t>(request.size()));
  EXPECT_THAT(served_.Control("status"), Succeeds());
}

// 4.6 when this was written; 0 is safest, and a mount for all to see costs the
// rest.
TEST(ServiceUnitTest, ItsExposureStaysLow) {
  const Outcome outcome = RunCommand(
      {"systemd-analyze", "security", "--offline=true", "--no-pager",
       "--threshold=48", "tools/dist/systemd/pcachefs@.service"});
  EXPECT_THAT(outcome, Succeeds());
  EXPECT_THAT(outcome.out, testing::HasSubstr("Overall exposure level"));
}

}  // namespace
}  // namespace pcachefs
