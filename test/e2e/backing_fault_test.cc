// A backing device that fails while it is served: refuses reads or writes of a
// range, is full, hangs, and comes back. Nothing acknowledged is lost, hits and
// writes go on, status and metrics tell, and nobody has to start anything
// again.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/faulty_file.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/loop_device.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;
using Operation = FaultyFile::Operation;

constexpr absl::Duration kPatience = absl::Minutes(1);

// EIO wherever a page of `path` cannot be had, be it cached by the kernel.
ssize_t ReadDirect(const std::string& path, uint64_t offset) {
  File file(path, O_RDONLY | O_DIRECT);
  Buffer block(kBlockSize);
  return file.Read(offset, block.span());
}

class BackingFaultTest : public testing::Test {
 protected:
  // Pattern 1 everywhere, not cached.
  void SetUp() override {
    ASSERT_THAT(WritePattern(served_.backing(), 1, 0, served_.size()), IsOk());
    auto faulty = FaultyFile::Serve(served_.backing(),
                                    served_.directory().File("faulty"));
    ASSERT_THAT(faulty, IsOk());
    faulty_ = *std::move(faulty);
    served_.options().backing_spec = faulty_->path();
    served_.options().flags = {"--read_ahead=0"};
    ASSERT_THAT(served_.Start(), IsOk());
  }

  void TearDown() override {
    // Requests that hang would keep the daemon from dying.
    if (faulty_ != nullptr) faulty_->Heal();
  }

  bool WaitForState(const std::string& state) {
    return WaitUntil(kPatience, [&] { return served_.State() == state; });
  }

  // The number in the first line of the metrics that begins so.
  std::string Metric(const std::string& name) {
    const std::string text = ContentOf(served_.mount() + "/.pcache/metrics");
    const size_t at = text.find("\n" + name + "{");
    if (at == std::string::npos) return "none";
    const size_t end = text.find('\n', at + 1);
    const size_t space = text.rfind(' ', end);
    return text.substr(space + 1, end - space - 1);
  }

  ServedCache served_{{.backing_size = 96 * kMiB, .cache_size = "64M"}};
  std::unique_ptr<FaultyFile> faulty_;
};

TEST_F(BackingFaultTest, ReadsOfABadRangeFailAndNothingElse) {
  ASSERT_THAT(CheckPattern(served_.image(), 1, 8 * kMiB, kMiB), IsOk());
  // A fill comes after its answer.
  ASSERT_TRUE(WaitUntil(kPatience, [&] {
    const auto status = served_.ImageStatus();
    return status.ok() && status->value("cached_bytes", uint64_t{0}) >= kMiB;
  }));
  faulty_->Fail({Operation::kRead}, EIO, 8 * kMiB, 8 * kMiB);

  EXPECT_THAT(CheckPattern(served_.image(), 1, 8 * kMiB, kMiB), IsOk())
      << "a hit";
  EXPECT_EQ(ReadDirect(served_.image(), 10 * kMiB), -EIO);
  EXPECT_THAT(CheckPattern(served_.image(), 1, 16 * kMiB, kMiB), IsOk());
  // Without reading what was there.
  EXPECT_THAT(WritePattern(served_.image(), 2, 12 * kMiB, kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 2, 12 * kMiB, kMiB), IsOk());
  EXPECT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_NE(Metric("pcachefs_backing_read_errors_total"), "0");

  faulty_->Heal();
  EXPECT_THAT(CheckPattern(served_.image(), 1, 8 * kMiB, 4 * kMiB), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

TEST_F(BackingFaultTest, WritesOfABadRangeAreTriedAgainUntilTheySucceed) {
  faulty_->Fail({Operation::kWrite}, EIO, 8 * kMiB, kMiB);
  ASSERT_THAT(WritePattern(served_.image(), 2, 0, 16 * kMiB), IsOk());
  ASSERT_TRUE(WaitForState("degraded"));

  const Outcome drained = served_.Control("drain");
  EXPECT_THAT(drained, ExitsWith(1));
  EXPECT_THAT(drained.err, HasSubstr("disk"));
  const auto status = served_.ImageStatus();
  ASSERT_THAT(status, IsOk());
  EXPECT_THAT(status->value("state_reason", ""), HasSubstr(faulty_->path()));
  EXPECT_NE(Metric("pcachefs_backing_write_errors_total"), "0");
  EXPECT_THAT(ContentOf(served_.mount() + "/.pcache/metrics"),
              HasSubstr("state=\"degraded\"} 1"));
  EXPECT_THAT(CheckPattern(served_.image(), 2, 0, 16 * kMiB), IsOk());

  // Nor does a death while it fails lose anything.
  served_.Kill();
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 2, 0, 16 * kMiB), IsOk());
  ASSERT_TRUE(WaitForState("degraded"));
  faulty_->Heal();

  ASSERT_TRUE(WaitForState("running"));
  EXPECT_THAT(ContentOf(served_.mount() + "/.pcache/metrics"),
              HasSubstr("state=\"degraded\"} 0"));
  EXPECT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served_.backing(), 2, 0, 16 * kMiB), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

// The kernel tells once of what it could not write; what was written before is
// unknown then, so all of it is written again.
TEST_F(BackingFaultTest, FailedFlushesAreRepeatedWithTheirWrites) {
  faulty_->Fail({Operation::kFlush}, EIO);
  ASSERT_THAT(WritePattern(served_.image(), 2, 0, 8 * kMiB), IsOk());
  ASSERT_TRUE(WaitForState("degraded"));
  EXPECT_THAT(served_.Control("status", {"--quiet"}), ExitsWith(3));
  faulty_->Heal();

  EXPECT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served_.backing(), 2, 0, 8 * kMiB), IsOk());
  EXPECT_EQ(served_.State(), "running");
  EXPECT_THAT(served_.Stop(), IsOk());
}

TEST_F(BackingFaultTest, DiscardsAreTriedAgainToo) {
  faulty_->Fail({Operation::kErase, Operation::kWrite}, EIO);
  {
    File image(served_.image(), O_RDWR);
    ASSERT_EQ(image.Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                             4 * kMiB, 4 * kMiB),
              0);
  }
  ASSERT_TRUE(WaitForState("degraded"));
  EXPECT_THAT(CheckZero(served_.image(), 4 * kMiB, 4 * kMiB), IsOk());
  faulty_->Heal();

  EXPECT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(CheckZero(served_.backing(), 4 * kMiB, 4 * kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served_.backing(), 1, 8 * kMiB, kMiB), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

// Nor does one who looks at a file that asks the device for nothing.
TEST_F(BackingFaultTest, WhoLooksAtTheFileDoesNotWaitForIt) {
  faulty_->Hang();
  // The daemon asks for the device's size every other second.
  ASSERT_TRUE(WaitUntil(kPatience, [&] { return faulty_->fault_count() > 0; }));

  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(RunCommand({"stat", served_.image()}, absl::Seconds(30)),
                Succeeds());
  }
  faulty_->Heal();
  EXPECT_THAT(served_.Stop(), IsOk());
}

TEST_F(BackingFaultTest, HangsAndGoesOn) {
  ASSERT_THAT(CheckPattern(served_.image(), 1, 0, 4 * kMiB), IsOk());
  faulty_->Hang();
  ASSERT_THAT(WritePattern(served_.image(), 2, 8 * kMiB, 4 * kMiB), IsOk());

  // One who waits for a miss does not hold the others up.
  std::thread reader([&] {
    EXPECT_THAT(CheckPattern(served_.image(), 1, 90 * kMiB, kMiB), IsOk());
  });
  ASSERT_TRUE(WaitUntil(kPatience, [&] { return faulty_->fault_count() > 0; }));
  EXPECT_THAT(CheckPattern(served_.image(), 1, 0, 4 * kMiB), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 2, 8 * kMiB, 4 * kMiB), IsOk());
  EXPECT_THAT(served_.Control("flush"), Succeeds());

  // Nor is there an error when the cache is full.
  std::thread writer([&] {
    EXPECT_THAT(WritePattern(served_.image(), 3, 16 * kMiB, 72 * kMiB), IsOk());
  });
  EXPECT_TRUE(WaitForState("stalled"));
  EXPECT_THAT(ContentOf(served_.mount() + "/.pcache/metrics"),
              HasSubstr("state=\"stalled\"} 1"));
  EXPECT_THAT(CheckPattern(served_.image(), 2, 8 * kMiB, 4 * kMiB), IsOk());
  faulty_->Heal();

  writer.join();
  reader.join();
  EXPECT_TRUE(WaitForState("running"));
  EXPECT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served_.backing(), 3, 16 * kMiB, 72 * kMiB), IsOk());
  EXPECT_THAT(CheckSame(served_.image(), served_.backing()), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

// SIGTERM in the middle of writing, with a backing device that fails: the
// daemon ends with 0, and all that was acknowledged is there.
TEST_F(BackingFaultTest, StopsWhileItFails) {
  faulty_->Fail({Operation::kWrite, Operation::kFlush}, EIO);
  ASSERT_THAT(WritePattern(served_.image(), 2, 0, 16 * kMiB), IsOk());
  ASSERT_TRUE(WaitForState("degraded"));

  ASSERT_EQ(kill(served_.pid(), SIGTERM), 0);
  EXPECT_EQ(served_.WaitForExit(), 0);
  faulty_->Heal();

  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 2, 0, 16 * kMiB), IsOk());
  EXPECT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served_.backing(), 2, 0, 16 * kMiB), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

// The same while it answers nothing at all, and goes on doing so: what cannot be
// ended is left behind. With a reader who waits for it, and without.
class HangingBackingTest : public BackingFaultTest,
                           public testing::WithParamInterface<bool> {};

TEST_P(HangingBackingTest, StopEndsAndLosesNothing) {
  faulty_->Hang(/*attributes=*/GetParam());
  ASSERT_THAT(WritePattern(served_.image(), 2, 0, 16 * kMiB), IsOk());
  std::thread reader([&] {
    if (!GetParam()) return;
    EXPECT_NE(ReadDirect(served_.image(), 90 * kMiB), kBlock);  // a miss
  });
  // Writeback, and the miss or the file's size.
  ASSERT_TRUE(
      WaitUntil(kPatience, [&] { return faulty_->fault_count() > 1; }));

  EXPECT_THAT(served_.Control("stop", {"--force"}), Succeeds());
  EXPECT_NE(served_.WaitForExit(), -1);
  reader.join();

  faulty_->Heal();
  EXPECT_THAT(RunCommand({PcachectlPath(), "check", served_.cache()}),
              Succeeds());
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_THAT(CheckPattern(served_.image(), 2, 0, 16 * kMiB), IsOk());
  EXPECT_THAT(served_.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(served_.backing(), 2, 0, 16 * kMiB), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

INSTANTIATE_TEST_SUITE_P(Readers, HangingBackingTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "OneWaits" : "None";
                         });

// A real one: a sparse file on a filesystem whose space others have taken.
TEST(FullBackingTest, IsWrittenBackAsSoonAsThereIsSpace) {
  ServedCache served({.backing_size = 64 * kMiB, .cache_size = "96M"});
  const std::string disk = served.directory().File("small");
  const std::string filesystem = served.directory().File("filesystem");
  MakeFile(disk, 96 * kMiB);
  auto loop = LoopDevice::Attach(disk);
  ASSERT_THAT(loop, IsOk());
  ASSERT_THAT(MakeFilesystem("ext4", (*loop)->path()), IsOk());
  ASSERT_THAT(Mount((*loop)->path(), filesystem), IsOk());
  MakeFile(filesystem + "/backing", served.size());
  MakeFile(filesystem + "/filler", 0);
  {
    File filler(filesystem + "/filler", O_RDWR);
    ASSERT_EQ(filler.Allocate(0, 0, 50 * kMiB), 0);
  }
  served.options().backing_spec = filesystem + "/backing";
  ASSERT_THAT(served.Start(), IsOk());

  ASSERT_THAT(WritePattern(served.image(), 1, 0, 60 * kMiB), IsOk());
  ASSERT_TRUE(
      WaitUntil(kPatience, [&] { return served.State() == "degraded"; }));
  const auto status = served.ImageStatus();
  ASSERT_THAT(status, IsOk());
  EXPECT_THAT(status->value("state_reason", ""), HasSubstr("No space left"));
  EXPECT_THAT(CheckPattern(served.image(), 1, 0, 60 * kMiB), IsOk());
  EXPECT_THAT(WritePattern(served.image(), 2, 0, kMiB), IsOk());

  ASSERT_EQ(unlink((filesystem + "/filler").c_str()), 0);
  EXPECT_TRUE(
      WaitUntil(kPatience, [&] { return served.State() == "running"; }));
  EXPECT_THAT(served.Control("drain"), Succeeds());
  EXPECT_THAT(CheckPattern(filesystem + "/backing", 2, 0, kMiB), IsOk());
  EXPECT_THAT(CheckPattern(filesystem + "/backing", 1, kMiB, 59 * kMiB),
              IsOk());
  EXPECT_THAT(served.Stop(), IsOk());
  EXPECT_THAT(Unmount(filesystem), IsOk());
}

}  // namespace
}  // namespace pcachefs
