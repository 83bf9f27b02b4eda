// A filesystem over loop writes through a daemon that shares little memory with
// programs that eat it: what the daemon needs, to take writes that would free
// memory, must not wait for memory that only these writes free.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/loop_device.h"
#include "test/e2e/testing/memory_cgroup.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

std::vector<std::string> In(const MemoryCgroup& group,
                            const std::vector<std::string>& command) {
  std::vector<std::string> all = group.Prefix();
  all.insert(all.end(), command.begin(), command.end());
  return all;
}

TEST(MemoryPressureTest, FilesystemOverLoopLosesNothingAndDoesNotDeadlock) {
  ASSERT_THAT(RequirePrograms({"stress-ng", "fio", "mkfs.ext4"}), IsOk());
  auto group = MemoryCgroup::Make(160 * kMiB);
  ASSERT_THAT(group, IsOk());
  ServedCache served({.backing_size = 512 * kMiB,
                      .cache_size = "96M",
                      .prefix = (*group)->Prefix()});
  const std::string filesystem = served.directory().File("filesystem");
  ASSERT_THAT(served.Start(), IsOk());
  auto loop = LoopDevice::Attach(served.image());
  ASSERT_THAT(loop, IsOk());
  ASSERT_THAT(MakeFilesystem("ext4", (*loop)->path()), IsOk());
  ASSERT_THAT(Mount((*loop)->path(), filesystem), IsOk());

  // All of it, by three.
  auto eater = Process::Start(
      In(**group, {"stress-ng", "--vm", "3", "--vm-bytes", "160m", "--vm-keep",
                   "--temp-path", served.directory().path(), "--quiet"}));
  ASSERT_THAT(eater, IsOk());
  ASSERT_TRUE(WaitUntil(absl::Minutes(1),
                        [&] { return (*group)->limit_hits() > 100; }));
  // Not in the group itself: docs/operations.md, "Little memory".
  EXPECT_THAT(
      RunCommand(
          {"fio", "--name=verify", "--directory=" + filesystem,
           "--rw=randwrite", "--bsrange=4k-64k",
           absl::StrCat("--size=", NumberFlag("megabytes", 20), "M"),
           "--ioengine=psync", "--fsync=200", "--verify=crc32c",
           "--verify_fatal=1", "--aux-path=" + served.directory().path()},
          absl::Minutes(10)),
      Succeeds());
  EXPECT_THAT(RunCommand({"sync", "--file-system", filesystem}), Succeeds());
  EXPECT_FALSE((*eater)->WaitFor(absl::ZeroDuration())) << (*eater)->outcome();
  EXPECT_EQ(served.State(), "running");
  eater->reset();

  ASSERT_THAT(Unmount(filesystem), IsOk());
  EXPECT_THAT(CheckFilesystem("ext4", (*loop)->path()), IsOk());
  loop->reset();
  EXPECT_THAT(served.Control("drain"), Succeeds());
  EXPECT_THAT(CheckSame(served.image(), served.backing()), IsOk());
  EXPECT_THAT(served.Stop(), IsOk());
}

}  // namespace
}  // namespace pcachefs
