// Images come and go while the mount is served, with pcachectl and over real
// devices.

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "nlohmann/json.hpp"
#include "test/e2e/testing/file.h"
#include "test/e2e/testing/loop_device.h"
#include "test/e2e/testing/outcome_matchers.h"
#include "test/e2e/testing/served_cache.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class AttachTest : public testing::Test {
 protected:
  // Half of the cache is the first image's.
  AttachTest()
      : served_({.backing_size = 32 * kMiB,
                 .cache_size = "128M",
                 .flags = {"--image_cache_size=48M"}}),
        other_(served_.directory().File("other.img")),
        image_(served_.mount() + "/other") {
    MakeFile(other_, 32 * kMiB);
  }
  void SetUp() override { ASSERT_THAT(served_.Start(), IsOk()); }

  Outcome Attach() { return served_.Control("attach", {"other", other_}); }
  Outcome Detach(const std::string& flag = "") {
    return flag.empty() ? served_.Control("detach", {"other"})
                        : served_.Control("detach", {"other", flag});
  }
  // As `list` has it; null if it is not there.
  nlohmann::json Entry(const std::string& name) {
    const Outcome list = served_.Control("list", {"--json"});
    const auto json = nlohmann::json::parse(list.out, nullptr, false);
    for (const auto& image : json.value("images", nlohmann::json::array())) {
      if (image["name"] == name) return image;
    }
    return nullptr;
  }
  // Flips a bit of what the cache file holds of the image's block at `offset`.
  void DestroyInCache(uint64_t offset) {
    const std::string block = ContentOf(image_).substr(offset, 4 * kKiB);
    const uint64_t place = ContentOf(served_.cache()).find(block);
    ASSERT_NE(place, std::string::npos);
    const int fd = open(served_.cache().c_str(), O_WRONLY | O_CLOEXEC);
    const char flipped = block[0] ^ 1;
    EXPECT_EQ(pwrite(fd, &flipped, 1, place), 1);
    close(fd);
  }
  // Of the mount's image.
  bool exists() { return access(image_.c_str(), F_OK) == 0; }

  ServedCache served_;
  const std::string other_;
  const std::string image_;
};

TEST_F(AttachTest, ImageComesAndGoes) {
  ASSERT_THAT(Attach(), Succeeds());
  EXPECT_EQ(Entry("other")["state"], "running");
  ASSERT_THAT(WritePattern(image_, 1, 0, 32 * kMiB), IsOk());

  ASSERT_THAT(Detach("--drain"), Succeeds());

  EXPECT_FALSE(exists());
  EXPECT_EQ(Entry("other"), nullptr);
  EXPECT_THAT(CheckPattern(other_, 1, 0, 32 * kMiB), IsOk());
  // Its share is free for the next one.
  ASSERT_THAT(Attach(), Succeeds());
  EXPECT_THAT(CheckPattern(image_, 1, 0, 32 * kMiB), IsOk());
  ASSERT_THAT(Detach(), Succeeds());
  ASSERT_THAT(served_.Stop(), IsOk());
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_FALSE(exists());
}

TEST_F(AttachTest, AttachedImageComesBackAtStart) {
  ASSERT_THAT(Attach(), Succeeds());
  ASSERT_THAT(WritePattern(image_, 1, 0, kMiB), IsOk());

  ASSERT_THAT(served_.Stop(), IsOk());
  ASSERT_THAT(served_.Start(), IsOk());

  EXPECT_THAT(CheckPattern(image_, 1, 0, kMiB), IsOk());
}

TEST_F(AttachTest, OpenImageIsNotDetached) {
  ASSERT_THAT(Attach(), Succeeds());
  ASSERT_THAT(WritePattern(image_, 1, 0, kMiB), IsOk());
  {
    const File file(image_, O_RDONLY);
    const File again(image_, O_RDONLY);
    EXPECT_THAT(Detach("--drain"),
                RefusesWith(1, AllOf(HasSubstr("other"),
                                     HasSubstr("open 2 times"))));
  }
  auto loop = LoopDevice::Attach(image_);
  ASSERT_THAT(loop, IsOk());
  EXPECT_THAT(Detach("--keep_dirty"),
              RefusesWith(1, HasSubstr("loop device")));
  EXPECT_THAT(CheckPattern(image_, 1, 0, kMiB), IsOk());
  loop->reset();

  EXPECT_TRUE(WaitUntil(absl::Minutes(1),
                        [&] { return Detach("--drain").ok(); }));
}

TEST_F(AttachTest, DirtyImageIsDetachedOnlyWithAFlag) {
  ASSERT_THAT(Attach(), Succeeds());
  // Writeback must not be done in between.
  ASSERT_THAT(served_.Control("set", {"other", "writeback_rate=4K"}),
              Succeeds());
  ASSERT_THAT(WritePattern(image_, 1, 0, 8 * kMiB), IsOk());

  EXPECT_THAT(Detach(), RefusesWith(1, AllOf(HasSubstr("--drain"),
                                             HasSubstr("--keep_dirty"))));
  EXPECT_TRUE(exists());
  EXPECT_THAT(served_.Control("detach", {"other", "--drain", "--force"}),
              RefusesWith(2, HasSubstr("one of")));
}

TEST_F(AttachTest, LostRangesAreForgottenOnlyByForce) {
  ASSERT_THAT(Attach(), Succeeds());
  ASSERT_THAT(served_.Control("set", {"other", "writeback_rate=4K"}),
              Succeeds());
  // The first MiB keeps writeback busy for minutes.
  ASSERT_THAT(WritePattern(image_, 1, 0, 2 * kMiB), IsOk());
  DestroyInCache(kMiB + 64 * kKiB);
  ASSERT_THAT(served_.Control("set", {"other", "writeback_rate=0"}),
              Succeeds());

  EXPECT_THAT(Detach("--drain"),
              RefusesWith(1, AllOf(HasSubstr("4096 bytes"),
                                   HasSubstr("lost"), HasSubstr("--force"))));
  EXPECT_TRUE(exists());
  EXPECT_EQ(Entry("other")["state"], "degraded");
  EXPECT_EQ(Entry("other")["dirty_bytes"], 0);

  EXPECT_THAT(Detach("--force"), Succeeds());
  EXPECT_FALSE(exists());
  EXPECT_THAT(CheckPattern(other_, 1, 0, kMiB + 64 * kKiB), IsOk());
}

TEST_F(AttachTest, KeptImageIsListedAndComesBackWhenAsked) {
  ASSERT_THAT(Attach(), Succeeds());
  ASSERT_THAT(WritePattern(image_, 1, 0, 16 * kMiB), IsOk());

  ASSERT_THAT(Detach("--keep_dirty"), Succeeds());

  EXPECT_FALSE(exists());
  EXPECT_EQ(Entry("other")["state"], "detached");
  ASSERT_THAT(served_.Stop(), IsOk());
  ASSERT_THAT(served_.Start(), IsOk());
  EXPECT_FALSE(exists());
  EXPECT_EQ(Entry("other")["state"], "detached");
  // It knows where its device is.
  ASSERT_THAT(served_.Control("attach", {"other"}), Succeeds());
  EXPECT_THAT(CheckPattern(image_, 1, 0, 16 * kMiB), IsOk());
  ASSERT_THAT(Detach("--drain"), Succeeds());
  EXPECT_THAT(CheckPattern(other_, 1, 0, 16 * kMiB), IsOk());
}

TEST_F(AttachTest, KeptImageComesBackWhenNamedAtStart) {
  ASSERT_THAT(Attach(), Succeeds());
  ASSERT_THAT(WritePattern(image_, 1, 0, 16 * kMiB), IsOk());
  ASSERT_THAT(Detach("--keep_dirty"), Succeeds());
  ASSERT_THAT(served_.Stop(), IsOk());

  served_.options().more_backing = ",other=" + other_;
  ASSERT_THAT(served_.Start(), IsOk());

  EXPECT_THAT(CheckPattern(image_, 1, 0, 16 * kMiB), IsOk());
}

TEST_F(AttachTest, WhatIsInUseIsRefused) {
  // The same device by other paths.
  const std::string hard = served_.directory().File("hard.img");
  const std::string soft = served_.directory().File("soft.img");
  ASSERT_EQ(link(served_.backing().c_str(), hard.c_str()), 0);
  ASSERT_EQ(symlink(served_.backing().c_str(), soft.c_str()), 0);
  for (const std::string& path : {served_.backing(), hard, soft}) {
    EXPECT_THAT(served_.Control("attach", {"other", path}),
                RefusesWith(1, AllOf(HasSubstr(path), HasSubstr("image disk"),
                                     HasSubstr(served_.backing()))));
  }
  EXPECT_THAT(served_.Control("attach", {"disk", other_}),
              RefusesWith(1, HasSubstr("attached already")));
  // Another daemon has it.
  ServedCache stranger({.backing_size = 16 * kMiB});
  ASSERT_THAT(stranger.Start(), IsOk());
  EXPECT_THAT(served_.Control("attach", {"other", stranger.backing()}),
              RefusesWith(1, AllOf(HasSubstr("in use by process"),
                                   HasSubstr(stranger.backing()))));
  EXPECT_EQ(Entry("other"), nullptr);
  ASSERT_THAT(Attach(), Succeeds());
}

TEST_F(AttachTest, WrongDeviceIsRefusedWithBothNamed) {
  ASSERT_THAT(Attach(), Succeeds());
  ASSERT_THAT(Detach("--keep_dirty"), Succeeds());
  const std::string wrong = served_.directory().File("wrong.img");
  MakeFile(wrong, 32 * kMiB);

  EXPECT_THAT(served_.Control("attach", {"other", wrong}),
              RefusesWith(1, AllOf(HasSubstr(wrong), HasSubstr(other_),
                                   HasSubstr("ino="))));

  EXPECT_EQ(Entry("other")["state"], "detached");
  EXPECT_THAT(Attach(), Succeeds());
}

TEST_F(AttachTest, BadRequestsAreRefused) {
  EXPECT_THAT(served_.Control("attach", {"other"}),
              RefusesWith(2, HasSubstr("does not know")));
  EXPECT_THAT(served_.Control("attach", {"other", "/no/such/file"}),
              RefusesWith(1, AllOf(HasSubstr("image other"),
                                   HasSubstr("/no/such/file"))));
  EXPECT_THAT(served_.Control("attach", {"o/ther", other_}),
              RefusesWith(2, HasSubstr("image name")));
  EXPECT_THAT(served_.Control("attach", {"other", other_,
                                         "--image_cache_size=1T"}),
              RefusesWith(1, HasSubstr("share")));
  EXPECT_THAT(served_.Control("attach", {"other", other_, "--mode=fast"}),
              RefusesWith(2, HasSubstr("fast")));
  EXPECT_THAT(served_.Control("detach", {"nobody"}),
              RefusesWith(1, HasSubstr("nobody")));
}

TEST_F(AttachTest, ForcedDetachForgetsAMissingImage) {
  ASSERT_THAT(Attach(), Succeeds());
  ASSERT_THAT(served_.Stop(), IsOk());
  ASSERT_EQ(unlink(other_.c_str()), 0);
  served_.options().flags.push_back("--skip_missing");
  ASSERT_THAT(served_.Start(), IsOk());

  EXPECT_EQ(Entry("other")["state"], "missing");
  EXPECT_THAT(Entry("other")["state_reason"], HasSubstr(other_));
  EXPECT_THAT(Detach(), RefusesWith(1, HasSubstr("--force")));
  EXPECT_THAT(Detach("--force"), Succeeds());

  EXPECT_EQ(Entry("other"), nullptr);
}

TEST_F(AttachTest, OtherImagesGoOnMeanwhile) {
  auto writer = Process::Start(
      {"fio", "--name=w", "--filename=" + served_.image(), "--rw=randwrite",
       "--bs=4k", "--size=16M", "--time_based", "--runtime=8", "--ioengine=psync",
       "--verify=crc32c", "--verify_backlog=64", "--direct=1"});
  ASSERT_THAT(writer, IsOk());
  for (int i = 0; i < 10; ++i) {
    ASSERT_THAT(Attach(), Succeeds());
    ASSERT_THAT(WritePattern(image_, i, 0, 4 * kMiB), IsOk());
    ASSERT_THAT(Detach(i % 2 == 0 ? "--drain" : "--keep_dirty"), Succeeds());
  }
  ASSERT_TRUE((*writer)->WaitFor(absl::Minutes(2)));
  EXPECT_THAT((*writer)->outcome(), Succeeds());
}

// Its goal is what is dirty when it begins, so that it ends although more and
// more comes.
TEST_F(AttachTest, DrainEndsUnderLoad) {
  auto writer = Process::Start(
      {"fio", "--name=w", "--filename=" + served_.image(), "--rw=randwrite",
       "--bs=64k", "--size=32M", "--time_based", "--runtime=600",
       "--ioengine=psync", "--direct=1"});
  ASSERT_THAT(writer, IsOk());
  ASSERT_TRUE(WaitUntil(absl::Minutes(1), [&] {
    const auto image = served_.ImageStatus();
    return image.ok() && image->value("writes", 0) > 100;
  }));

  EXPECT_THAT(served_.Control("drain", {"disk"}), Succeeds());

  EXPECT_FALSE((*writer)->WaitFor(absl::ZeroDuration())) << "no load any more";
  (*writer)->Signal(SIGKILL);
  EXPECT_TRUE((*writer)->WaitFor(absl::Seconds(20)));
}

}  // namespace
}  // namespace pcachefs
