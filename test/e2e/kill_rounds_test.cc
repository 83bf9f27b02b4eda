// A filesystem over loop whose daemon dies again and again in the middle of
// fio's writing. What had completed by then is there after each restart, and
// the filesystem is sound. Dies also while it replays, and while it drains.
//
//   bazel run --config=ci //test/e2e:kill_rounds_test -- --rounds=100
//
// is the long form; the number is of rounds on each filesystem.

#include <signal.h>

#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/loop_device.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

class KillRoundsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ASSERT_THAT(RequirePrograms({"fio", "mkfs.ext4", "mkfs.xfs", "e2fsck",
                                 "xfs_repair", "fstrim"}),
                IsOk());
  }

  void StartAndMount() {
    ASSERT_THAT(served_.Start(), IsOk());
    auto loop = LoopDevice::Attach(served_.image());
    ASSERT_THAT(loop, IsOk());
    loop_ = *std::move(loop);
    if (!made_) {
      ASSERT_THAT(MakeFilesystem(GetParam(), loop_->path()), IsOk());
      made_ = true;
    }
    // Replays its journal.
    ASSERT_THAT(Mount(loop_->path(), filesystem_), IsOk());
  }

  void UnmountAndDetach() {
    // After a death the filesystem has met errors: what it says of them is its
    // own business.
    RunCommand({"umount", filesystem_});
    loop_.reset();
    ASSERT_FALSE(IsMounted(filesystem_));
  }

  // All that is random in it comes from the round, so that the same command
  // with the file that keeps fio's state finds the same writes again. Direct
  // writes into a file that has its blocks: to complete is to be acknowledged.
  std::vector<std::string> Fio(uint64_t round,
                               const std::vector<std::string>& options) {
    const std::vector<std::string> shapes[] = {
        {"--bs=4k"},
        {"--bsrange=4k-128k"},
        {"--bs=4k", "--fdatasync=16"},
        {"--bs=64k"},
    };
    std::vector<std::string> command = {
        "fio", "--name=verify",
        absl::StrCat("--filename=", filesystem_, "/data"),
        // Each job one write at a time: of more, fio takes for granted that
        // they complete nearly in order.
        "--numjobs=8", "--size=12M", "--offset_increment=12M",
        "--ioengine=psync", "--rw=randwrite", "--direct=1",
        absl::StrCat("--randseed=", round), "--verify=crc32c",
        "--verify_fatal=1", "--fallocate=none", "--overwrite=1",
        "--aux-path=" + served_.directory().path()};
    const auto& shape = shapes[round % 4];
    command.insert(command.end(), shape.begin(), shape.end());
    command.insert(command.end(), options.begin(), options.end());
    return command;
  }

  // fio notes which writes were completed, then kills.
  void WriteAndKill(uint64_t round) {
    RunCommand(Fio(
        round,
        {"--do_verify=0", "--verify_state_save=1",
         // Not done before the end; other moments each time.
         "--rate=4m", absl::StrCat("--trigger-timeout=", 1 + round % 2, "s"),
         absl::StrCat("--trigger=kill -9 ", served_.pid())}));
    ASSERT_EQ(served_.WaitForExit(), 128 + 9);
    ASSERT_NO_FATAL_FAILURE(UnmountAndDetach());
  }

  void Verify(uint64_t round) {
    const Outcome verified =
        RunCommand(Fio(round, {"--verify_only=1", "--verify_state_load=1",
                               // Else it notes that all is written.
                               "--verify_state_save=0"}));
    ASSERT_THAT(verified, Succeeds());
    // It did find the state, and writes in it.
    ASSERT_THAT(verified.err, testing::Not(testing::HasSubstr("verify state")));
    ASSERT_THAT(verified.out, testing::ContainsRegex("READ: bw="));
  }

  // Dies while it replays, or soon after, and while it writes back.
  void KillAtStart(uint64_t round) {
    std::vector<std::string> command = served_.Command();
    command.insert(command.end() - 1, "--foreground");
    auto daemon = Process::Start(command);
    ASSERT_THAT(daemon, IsOk());
    (*daemon)->WaitFor(absl::Milliseconds(7 * (round % 16)));
    (*daemon)->Signal(SIGKILL);
    ASSERT_TRUE((*daemon)->WaitFor(absl::Minutes(1)));
  }

  // Full half the time: writeback and reclaim are interrupted too.
  ServedCache served_{{.backing_size = 320 * kMiB, .cache_size = "48M"}};
  const std::string filesystem_ = served_.directory().File("filesystem");
  std::unique_ptr<LoopDevice> loop_;
  bool made_ = false;
};

TEST_P(KillRoundsTest, CompletedWritesAreThereAndTheFilesystemIsSound) {
  const uint64_t rounds = NumberFlag("rounds", 2);
  const uint64_t first = NumberFlag("first", 1);
  ASSERT_NO_FATAL_FAILURE(StartAndMount());
  // All blocks of the file are there before the first round.
  ASSERT_THAT(RunCommand({"dd", "if=/dev/zero",
                          absl::StrCat("of=", filesystem_, "/data"), "bs=1M",
                          "count=96", "conv=fsync"}),
              Succeeds());

  for (uint64_t round = first; round < first + rounds; ++round) {
    SCOPED_TRACE(absl::StrCat("repeat with --first=", round, " --rounds=1"));
    ASSERT_NO_FATAL_FAILURE(WriteAndKill(round));
    if (round % 2 == 0) {
      ASSERT_NO_FATAL_FAILURE(KillAtStart(round));
    }
    ASSERT_NO_FATAL_FAILURE(StartAndMount());
    ASSERT_NO_FATAL_FAILURE(Verify(round));
    if (round % 2 == 1) {
      ASSERT_THAT(RunCommand({"fstrim", filesystem_}), Succeeds());
    }
    ASSERT_THAT(Unmount(filesystem_), IsOk());
    ASSERT_THAT(CheckFilesystem(GetParam(), loop_->path()), IsOk());
    ASSERT_THAT(Mount(loop_->path(), filesystem_), IsOk());
    if (round % 25 == 0) std::cout << round << " rounds" << std::endl;
  }

  // The drained backing device has it all.
  ASSERT_THAT(Unmount(filesystem_), IsOk());
  loop_.reset();
  ASSERT_THAT(served_.Control("stop", {"--drain"}), Succeeds());
  ASSERT_EQ(served_.WaitForExit(), 0);
  auto backing = LoopDevice::Attach(served_.backing());
  ASSERT_THAT(backing, IsOk());
  ASSERT_THAT(CheckFilesystem(GetParam(), (*backing)->path()), IsOk());
  ASSERT_THAT(Mount((*backing)->path(), filesystem_), IsOk());
  EXPECT_NO_FATAL_FAILURE(Verify(first + rounds - 1));
  EXPECT_THAT(Unmount(filesystem_), IsOk());
}

INSTANTIATE_TEST_SUITE_P(Filesystems, KillRoundsTest,
                         testing::Values("ext4", "xfs"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pcachefs
