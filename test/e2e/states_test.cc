// All states that a cache and its images can be in, one after the other, on one
// image: each is told in status, in the metrics and, where reading it is what
// people do, by exit codes; and each is left by itself when its cause is gone,
// but for `failed`, which takes a replay, and `read-only`, which is a wish.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/e2e/testing/acknowledged_writer.h"
#include "test/e2e/testing/faulty_file.h"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/process.h"
#include "test/e2e/testing/programs.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::HasSubstr;
using Operation = FaultyFile::Operation;

class StatesTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string file = served_.directory().File("cache");
    MakeFile(file, 32 * kMiB);
    ASSERT_THAT(RunCommand({PcachectlPath(), "format", file, "--force"}),
                Succeeds());
    auto faulty =
        FaultyFile::Serve(file, served_.directory().File("faulty_cache"));
    ASSERT_THAT(faulty, IsOk());
    cache_ = *std::move(faulty);
    faulty = FaultyFile::Serve(served_.backing(),
                               served_.directory().File("faulty_backing"));
    ASSERT_THAT(faulty, IsOk());
    backing_ = *std::move(faulty);
    served_.options().cache_path = cache_->path();
    served_.options().backing_spec = backing_->path();
  }

  // Everywhere, sooner or later.
  void ExpectState(const std::string& state) {
    EXPECT_TRUE(
        WaitUntil(absl::Minutes(1), [&] { return served_.State() == state; }))
        << "got " << served_.State() << ", want " << state;
    const std::string metrics = ContentOf(served_.mount() + "/.pcache/metrics");
    for (const std::string other :
         {"running", "stalled", "degraded", "read-only", "failed"}) {
      EXPECT_THAT(metrics, HasSubstr(absl::StrCat(
                               "pcachefs_image_state{image=\"disk\",state=\"",
                               other, "\"} ", other == state ? "1" : "0")));
    }
    EXPECT_THAT(served_.Control("status").out, HasSubstr(state));
    const auto status = served_.ImageStatus();
    ASSERT_THAT(status, IsOk());
    EXPECT_EQ(status->value("state_reason", "").empty(), state == "running");
  }

  ServedCache served_{{.backing_size = 64 * kMiB}};
  std::unique_ptr<FaultyFile> cache_;
  std::unique_ptr<FaultyFile> backing_;
};

TEST_F(StatesTest, AreToldAndLeft) {
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_NO_FATAL_FAILURE(ExpectState("running"));

  backing_->Fail({Operation::kWrite}, EIO);
  ASSERT_THAT(WritePattern(served_.image(), 1, 0, 4 * kMiB), IsOk());
  ASSERT_NO_FATAL_FAILURE(ExpectState("degraded"));
  backing_->Heal();
  ASSERT_NO_FATAL_FAILURE(ExpectState("running"));

  backing_->Hang();
  std::thread writer([&] {
    EXPECT_THAT(WritePattern(served_.image(), 2, 0, 48 * kMiB), IsOk());
  });
  ExpectState("stalled");
  backing_->Heal();
  writer.join();
  ASSERT_NO_FATAL_FAILURE(ExpectState("running"));

  ASSERT_THAT(WritePattern(served_.image(), 3, 0, 2 * kMiB), IsOk());
  cache_->Fail({Operation::kWrite, Operation::kFlush}, EIO);
  ASSERT_FALSE(WritePattern(served_.image(), 4, 48 * kMiB, kMiB).ok());
  ASSERT_NO_FATAL_FAILURE(ExpectState("failed"));
  cache_->Heal();
  ASSERT_NO_FATAL_FAILURE(ExpectState("failed"));
  ASSERT_EQ(kill(served_.pid(), SIGTERM), 0);
  EXPECT_NE(served_.WaitForExit(), -1);
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_NO_FATAL_FAILURE(ExpectState("running"));
  EXPECT_THAT(CheckPattern(served_.image(), 3, 0, 2 * kMiB), IsOk());
  ASSERT_THAT(served_.Control("drain"), Succeeds());
  ASSERT_THAT(served_.Stop(), IsOk());

  served_.options().flags = {"--read_only"};
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_NO_FATAL_FAILURE(ExpectState("read-only"));
  int error = 0;
  {
    File image(served_.image(), O_RDWR, &error);
    if (error == 0) {
      Buffer block(kBlockSize);
      error = -image.Write(0, block.span());
    }
  }
  EXPECT_EQ(error, EROFS);
  EXPECT_THAT(CheckPattern(served_.image(), 3, 0, 2 * kMiB), IsOk());
  ASSERT_THAT(served_.Stop(), IsOk());

  served_.options().flags = {};
  ASSERT_THAT(served_.Start(), IsOk());
  ASSERT_NO_FATAL_FAILURE(ExpectState("running"));
  EXPECT_THAT(CheckPattern(served_.image(), 2, 2 * kMiB, 46 * kMiB), IsOk());
  EXPECT_THAT(served_.Stop(), IsOk());
}

// SIGTERM while all write: commits and ends with 0, and what was acknowledged
// is there.
TEST(TerminateTest, InMidWriteLosesNothing) {
  ServedCache served({.backing_size = 128 * kMiB, .cache_size = "32M"});
  AcknowledgedWriter writer(served.image(), served.size(), 4);
  for (int round = 1; round <= 3; ++round) {
    SCOPED_TRACE(round);
    ASSERT_THAT(served.Start(), IsOk());
    ASSERT_THAT(writer.Check(served.image()), IsOk());
    const uint64_t before = writer.acknowledged_count();
    writer.WriteUntil(500 * round, round, [&] {
      kill(served.pid(), SIGTERM);
      EXPECT_EQ(served.WaitForExit(), 0);
    });
    ASSERT_GE(writer.acknowledged_count() - before, 500u * round);
  }
  ASSERT_THAT(served.Start(), IsOk());
  EXPECT_THAT(writer.Check(served.image()), IsOk());
  ASSERT_THAT(served.Control("drain"), Succeeds());
  ASSERT_THAT(served.Stop(), IsOk());
  EXPECT_THAT(writer.Check(served.backing()), IsOk());
}

}  // namespace
}  // namespace pcachefs
