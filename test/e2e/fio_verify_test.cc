// fio writes blocks that carry checksums and reads them back, from the image
// and from a loop device on it: every block size from a sector to a megabyte,
// trims in between, and after a kill -9 what had completed by then.

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
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

std::vector<std::string> FioCommand(const ServedCache& served,
                                    const std::string& path,
                                    const std::vector<std::string>& options) {
  std::vector<std::string> command = {
      "fio", "--name=verify", "--filename=" + path, "--randseed=7",
      "--verify=crc32c", "--verify_fatal=1",
      // Of the saved state of what was written.
      "--aux-path=" + served.directory().path()};
  command.insert(command.end(), options.begin(), options.end());
  return command;
}

struct Job {
  const char* name;
  std::vector<std::string> options;
  uint32_t loop_sector_size = 0;  // 0: the image itself
};

class FioVerifyTest : public testing::TestWithParam<Job> {};

TEST_P(FioVerifyTest, ReadsBackWhatItWrote) {
  ASSERT_THAT(RequirePrograms({"fio"}), IsOk());
  ServedCache served({.backing_size = 128 * kMiB, .cache_size = "64M"});
  ASSERT_THAT(served.Start(), IsOk());

  std::string path = served.image();
  std::unique_ptr<LoopDevice> loop;
  if (GetParam().loop_sector_size != 0) {
    auto attached =
        LoopDevice::Attach(served.image(), LoopDevice::Access::kReadWrite,
                           GetParam().loop_sector_size);
    ASSERT_THAT(attached, IsOk());
    loop = *std::move(attached);
    path = loop->path();
  }

  EXPECT_THAT(RunCommand(FioCommand(served, path, GetParam().options)),
              Succeeds());

  loop.reset();
  EXPECT_THAT(served.Control("drain"), Succeeds());
  EXPECT_THAT(CheckSame(served.image(), served.backing()), IsOk());
  EXPECT_THAT(served.Stop(), IsOk());
}

INSTANTIATE_TEST_SUITE_P(
    Jobs, FioVerifyTest,
    testing::Values(
        Job{"Sectors",
            {"--rw=randwrite", "--bs=512", "--size=2M", "--direct=1",
             "--ioengine=libaio", "--iodepth=16"}},
        Job{"Blocks",
            {"--rw=randwrite", "--bs=4k", "--size=96M", "--direct=1",
             "--ioengine=libaio", "--iodepth=16", "--fsync=500"}},
        Job{"ReadsAmongWrites",
            {"--rw=randrw", "--bs=64k", "--size=128M", "--direct=1",
             "--ioengine=io_uring", "--iodepth=8", "--verify_backlog=64"}},
        Job{"Megabytes",
            {"--rw=write", "--bs=1m", "--size=128M", "--direct=1",
             "--ioengine=libaio", "--iodepth=4"}},
        Job{"SectorsToMegabytes",
            {"--rw=randwrite", "--bsrange=512-1m", "--size=128M", "--direct=1",
             "--ioengine=libaio", "--iodepth=8"}},
        Job{"UnalignedBuffered",
            {"--rw=randwrite", "--bsrange=700-64k", "--bs_unaligned",
             "--size=16M", "--ioengine=psync"}},
        Job{"LoopSectors",
            {"--rw=randwrite", "--bs=512", "--size=4M", "--direct=1",
             "--ioengine=libaio", "--iodepth=16"},
            512},
        Job{"LoopSectorsToMegabytes",
            {"--rw=randwrite", "--bsrange=512-1m", "--size=96M", "--direct=1",
             "--ioengine=libaio", "--iodepth=8", "--fdatasync=100"},
            512},
        Job{"LoopBuffered",
            {"--rw=randwrite", "--bsrange=512-64k", "--size=32M",
             "--ioengine=psync", "--end_fsync=1"},
            512},
        // Each block is trimmed and then written.
        Job{"LoopTrims",
            {"--rw=randtrimwrite", "--bs=4k", "--size=16M", "--direct=1",
             "--ioengine=libaio", "--iodepth=8"},
            4096}),
    [](const auto& info) { return info.param.name; });

TEST(FioKillTest, CompletedWritesAreThereAfterRestart) {
  ASSERT_THAT(RequirePrograms({"fio"}), IsOk());
  ServedCache served({.backing_size = 128 * kMiB, .cache_size = "64M"});
  ASSERT_THAT(served.Start(), IsOk());
  // Each job one write at a time: of more, fio takes for granted that they
  // complete nearly in order.
  const std::vector<std::string> job = {
      "--rw=randwrite",   "--bs=4k",    "--numjobs=8",
      "--size=16M",       "--direct=1", "--offset_increment=16M",
      "--ioengine=psync"};

  // fio notes which writes were completed, then kills.
  std::vector<std::string> options = job;
  options.insert(options.end(),
                 {"--do_verify=0", "--verify_state_save=1", "--rate_iops=750",
                  "--trigger-timeout=2s",
                  absl::StrCat("--trigger=kill -9 ", served.pid())});
  RunCommand(FioCommand(served, served.image(), options));
  ASSERT_EQ(served.WaitForExit(), 128 + 9);
  ASSERT_THAT(served.Start(), IsOk());
  options = job;
  options.insert(options.end(), {"--verify_only=1", "--verify_state_load=1"});
  const Outcome verified =
      RunCommand(FioCommand(served, served.image(), options));

  EXPECT_THAT(verified, Succeeds());
  // It did find the state and some writes in it.
  EXPECT_THAT(verified.err, testing::Not(testing::HasSubstr("verify state")));
  EXPECT_THAT(verified.out, testing::ContainsRegex("READ: bw="));
}

}  // namespace
}  // namespace pcachefs
