// Proves that an image with the smallest share there is, full of dirty data and
// asked by many at once, answers everybody, also when the disk fails for a
// while (C10, C11).

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/image_space.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "iobackend/backing_device.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/scripted_disk.h"
#include "test/fakes/random.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using Operation = ScriptedDisk::Operation;

constexpr int kWriters = 64;
constexpr uint64_t kBlock = kBlockSize;

CoreMachine::Options SmallestShare() {
  CoreMachine::Options options;
  options.image_size = 16 * kMiB;
  options.image.cache_size = kMinShare * kMiB;
  return options;
}

// Each writer has a part of the image, which it writes over and over.
class SmallestShareTest : public testing::Test {
 protected:
  static constexpr uint64_t kPart = 16 * kMiB / kWriters;

  void SetUp() override {
    ASSERT_THAT(machine_.Start(), IsOk());
    ASSERT_EQ(machine_.status().cache_segs, kMinShare);
    image_.assign(16 * kMiB, '\0');
  }

  // Lengths and alignments of all kinds, flushes and discards in between.
  Pending StartSomething(int writer) {
    const uint64_t begin = writer * kPart;
    const uint64_t offset = begin + random_.Below(kPart / 2 - kBlock);
    const uint64_t length = 1 + random_.Below(kPart / 2);
    switch (random_.Below(8)) {
      case 0:
        return machine_.StartFlush();
      case 1: {
        image_.replace(begin, kPart, kPart, '\0');
        return machine_.StartDiscard(begin, kPart);
      }
      case 2:
        return Write(offset, length);
      default:
        return Write(offset / kBlock * kBlock,
                     (length / kBlock + 1) * kBlock);
    }
  }
  Pending Write(uint64_t offset, uint64_t length) {
    const std::string bytes(length, static_cast<char>('a' + random_.Below(26)));
    image_.replace(offset, length, bytes);
    return machine_.StartWrite(offset, bytes);
  }
  void RunRounds(int rounds) {
    for (int round = 0; round < rounds; ++round) {
      std::vector<Pending> pending;
      for (int i = 0; i < kWriters; ++i) pending.push_back(StartSomething(i));
      for (const Pending& one : pending) {
        ASSERT_THAT(machine_.Await(one), IsOk()) << "round " << round;
      }
    }
  }
  void ExpectImage() {
    for (uint64_t at = 0; at < image_.size(); at += kMiB) {
      const auto read = machine_.Read(at, kMiB);
      ASSERT_THAT(read, IsOk());
      EXPECT_TRUE(*read == image_.substr(at, kMiB)) << "at " << at;
    }
  }

  CoreMachine machine_{SmallestShare()};
  Random random_{7};
  std::string image_;
};

TEST_F(SmallestShareTest, SixtyFourWritersGetThrough) {
  RunRounds(12);

  ExpectImage();
  ASSERT_THAT(machine_.Drain(), IsOk());
  EXPECT_TRUE(machine_.disk().Content(0, image_.size()) == image_);
}

TEST_F(SmallestShareTest, AndAfterTheDiskWasAwayForAWhile) {
  RunRounds(2);
  machine_.disk().Fail(Operation::kWrite, absl::UnavailableError("away"));
  std::vector<Pending> pending;
  for (int i = 0; i < kWriters; ++i) {
    pending.push_back(Write(i * kPart, kPart));
  }
  for (int i = 0; i < 3000; ++i) {
    machine_.RunIdle();
    machine_.clock().Advance(absl::Milliseconds(10));
  }
  EXPECT_FALSE(pending.back()->done);

  machine_.disk().Fail(Operation::kWrite, absl::OkStatus());
  for (const Pending& one : pending) {
    EXPECT_THAT(machine_.Await(one), IsOk());
  }
  RunRounds(2);
  ExpectImage();
}

TEST_F(SmallestShareTest, AndOverAStartWithTheCacheFull) {
  machine_.disk().Fail(Operation::kWrite, absl::UnavailableError("away"));
  for (int i = 0; i < kWriters; ++i) {
    const Pending write = machine_.StartWrite(i * kPart, std::string(kPart, 'x'));
    machine_.RunIdle();
    if (!write->done) break;
  }
  machine_.Kill();
  machine_.disk().Fail(Operation::kWrite, absl::OkStatus());
  ASSERT_THAT(machine_.Start(), IsOk());

  image_.assign(image_.size(), 'y');
  for (uint64_t at = 0; at < image_.size(); at += kMiB) {
    ASSERT_THAT(machine_.Write(at, std::string(kMiB, 'y')), IsOk());
  }
  RunRounds(2);
  ExpectImage();
}

}  // namespace
}  // namespace pcachefs
