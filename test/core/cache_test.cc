// Proves which devices are taken for a cache, which backing device for an
// image's, and what of both outlives a stop.

#include "core/cache.h"

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/cached_image.h"
#include "core/image_core.h"
#include "core/image_space.h"
#include "core/options.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/geometry.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/scripted_disk.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/fake_clock.h"
#include "test/fakes/random.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const CacheOptions kNoThreads = {.start_threads = false};

class CacheTest : public testing::Test {
 protected:
  // Torn at 8 bytes, as memory is.
  CacheTest() : device_({.size = 40 * kMiB, .atom_size = 8}) {}

  absl::Status Format() {
    return Cache::Format(device_, {.segment_size = kMiB, .label = "test"},
                         clock_);
  }
  absl::Status Open() {
    cache_.reset();
    auto cache = Cache::Open(device_, kNoThreads, clock_);
    if (cache.ok()) cache_ = *std::move(cache);
    return cache.status();
  }
  // Closes the cache in good order if it is open, and opens it.
  absl::Status Reopen() {
    if (cache_ != nullptr) {
      EXPECT_THAT(cache_->Close(), IsOk());
    }
    return Open();
  }
  absl::Status Attach(const std::string& name, ScriptedDisk& disk,
                      const std::string& identity, uint64_t segments = 10) {
    return cache_
        ->Attach(name, disk.Open(identity), {.cache_size = segments * kMiB})
        .status();
  }
  void Write(uint64_t offset, const std::string& bytes) {
    ASSERT_THAT(
        device_.Write(MediaOffset(offset), std::as_bytes(std::span(bytes))),
        IsOk());
  }

  FakeClock clock_;
  FakeCacheDevice device_;
  ScriptedDisk disk1_{8 * kMiB};
  ScriptedDisk disk2_{8 * kMiB};
  std::unique_ptr<Cache> cache_;
};

TEST_F(CacheTest, WhatIsNoCacheIsNamed) {
  const auto no_cache = absl::StatusCode::kFailedPrecondition;

  EXPECT_THAT(Open(), StatusIs(no_cache, HasSubstr("blank")));
  Write(0, "some file system");
  EXPECT_THAT(Open(), StatusIs(no_cache, HasSubstr("something else")));
  EXPECT_THAT(Cache::Inspect(device_), StatusIs(no_cache));

  ASSERT_THAT(Format(), IsOk());
  EXPECT_THAT(Cache::Inspect(device_), IsOk());
  for (int slot : {0, 1}) {
    Write(SuperblockOffset(slot).value() + 24, "\x02");  // major version 2
  }
  EXPECT_THAT(Open(), StatusIs(no_cache, HasSubstr("another format version")));
}

TEST_F(CacheTest, TruncatedDeviceIsRefused) {
  ASSERT_THAT(Format(), IsOk());
  std::vector<std::byte> head(4 * kMiB);
  ASSERT_THAT(device_.Read(MediaOffset(0), head), IsOk());
  FakeCacheDevice shorter({.size = 30 * kMiB});
  ASSERT_THAT(shorter.Write(MediaOffset(0), head), IsOk());

  EXPECT_THAT(
      Cache::Open(shorter, kNoThreads, clock_),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("truncated")));

  FakeCacheDevice tiny({.size = 4096});
  EXPECT_THAT(Cache::Inspect(tiny),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(Cache::Format(tiny, {}, clock_),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(CacheTest, OneCopyOfTheSuperblockIsEnough) {
  ASSERT_THAT(Format(), IsOk());
  device_.FlipBit(SuperblockOffset(0).value() + 100, 0);
  EXPECT_THAT(Open(), IsOk());
  cache_.reset();
  // The damaged one was made anew.
  device_.FlipBit(SuperblockOffset(1).value() + 100, 0);
  EXPECT_THAT(Open(), IsOk());
  cache_.reset();

  for (int slot : {0, 1}) {
    device_.FlipBit(SuperblockOffset(slot).value() + 100, 0);
  }
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(CacheTest, FormatLeavesNothingOfAFormerCache) {
  ASSERT_THAT(Format(), IsOk());
  ASSERT_THAT(Open(), IsOk());
  ASSERT_THAT(Attach("vm1", disk1_, "one"), IsOk());
  ASSERT_THAT(cache_->Close(), IsOk());
  cache_.reset();

  ASSERT_THAT(Format(), IsOk());
  ASSERT_THAT(Open(), IsOk());

  EXPECT_TRUE(cache_->KnownImages().empty());
  EXPECT_EQ(cache_->status().segments_used, 0u);
}

TEST_F(CacheTest, InvalidOptionsAreRefused) {
  const auto invalid = StatusIs(absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Cache::Format(device_, {.gc_percent = 91}, clock_), invalid);
  EXPECT_THAT(Cache::Format(device_, {.segment_size = 3 * kMiB}, clock_),
              invalid);
  ASSERT_THAT(Format(), IsOk());
  ASSERT_THAT(Open(), IsOk());
  for (const char* name :
       {"", ".hidden", "with space", "sl/ash", "\xc3\xa9", "a:b"}) {
    EXPECT_THAT(Attach(name, disk1_, "one"), invalid) << name;
  }
  EXPECT_THAT(Attach(std::string(64, 'x'), disk1_, "one"), invalid);
  EXPECT_THAT(Attach(std::string(63, 'x'), disk1_, "one"), IsOk());
}

TEST_F(CacheTest, ImagesShareOneCacheAndDoNotMix) {
  ASSERT_THAT(Format(), IsOk());
  ASSERT_THAT(Open(), IsOk());
  ASSERT_THAT(Attach("vm1", disk1_, "one"), IsOk());
  ASSERT_THAT(Attach("vm2", disk2_, "two"), IsOk());
  const std::string a(4096, 'a');
  const std::string b(4096, 'b');
  const auto ok = [](absl::Status status) { EXPECT_THAT(status, IsOk()); };
  const ImageRange range = {ImageOffset(0), 4096};
  const auto write = [&](const char* name, const std::string& bytes) {
    cache_->Find(name)->Write(range, std::as_bytes(std::span(bytes)),
                              CachedImage::Payload::kCopyIfWaiting, ok);
  };
  const auto read = [&](const char* name) {
    std::string bytes(4096, '?');
    cache_->Find(name)->Read(range, std::as_writable_bytes(std::span(bytes)),
                             ok);
    return bytes;
  };
  write("vm1", a);
  write("vm2", b);
  EXPECT_EQ(read("vm1"), a);
  EXPECT_EQ(read("vm2"), b);
  EXPECT_EQ(cache_->Find("vm3"), nullptr);

  ASSERT_THAT(Reopen(), IsOk());
  ASSERT_EQ(cache_->KnownImages().size(), 2u);
  ASSERT_THAT(Attach("vm2", disk2_, "two"), IsOk());
  ASSERT_THAT(Attach("vm1", disk1_, "one"), IsOk());
  EXPECT_EQ(read("vm1"), a);
  EXPECT_EQ(read("vm2"), b);
}

TEST_F(CacheTest, WrongBackingDeviceIsRefusedWithBothNamed) {
  ASSERT_THAT(Format(), IsOk());
  ASSERT_THAT(Open(), IsOk());
  ASSERT_THAT(Attach("vm1", disk1_, "one"), IsOk());
  ASSERT_THAT(Reopen(), IsOk());
  ScriptedDisk smaller(4 * kMiB);

  EXPECT_THAT(Attach("vm1", disk2_, "two"),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("one"), HasSubstr("two"))));
  EXPECT_THAT(Attach("vm1", smaller, "one"),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("4194304"), HasSubstr("8388608"))));
  EXPECT_THAT(Attach("vm1", disk1_, "one"), IsOk());
}

TEST_F(CacheTest, NameAndBackingDeviceCanBeUsedOnlyOnce) {
  const auto used = absl::StatusCode::kAlreadyExists;
  ASSERT_THAT(Format(), IsOk());
  ASSERT_THAT(Open(), IsOk());
  ASSERT_THAT(Attach("vm1", disk1_, "one"), IsOk());

  EXPECT_THAT(Attach("vm1", disk1_, "one"), StatusIs(used));
  EXPECT_THAT(Attach("vm2", disk1_, "one"), StatusIs(used, HasSubstr("vm1")));
  ASSERT_THAT(Reopen(), IsOk());
  EXPECT_THAT(Attach("vm2", disk1_, "one"), StatusIs(used, HasSubstr("vm1")))
      << "vm1 is not attached, but has dirty data for that device";
}

TEST_F(CacheTest, SharesCannotExceedTheCache) {
  ASSERT_THAT(Format(), IsOk());
  ASSERT_THAT(Open(), IsOk());
  const uint32_t segments = cache_->status().segments;
  const auto exhausted = absl::StatusCode::kResourceExhausted;

  EXPECT_THAT(Attach("vm1", disk1_, "one", kMinShare - 1), StatusIs(exhausted));
  EXPECT_THAT(Attach("vm1", disk1_, "one", segments + 1), StatusIs(exhausted));
  ASSERT_THAT(Attach("vm1", disk1_, "one", segments - kMinShare + 1), IsOk());
  EXPECT_EQ(cache_->unassigned_bytes(), (kMinShare - 1) * kMiB);
  EXPECT_THAT(Attach("vm2", disk2_, "two", 0),
              StatusIs(exhausted, HasSubstr("share")));
  ASSERT_THAT(Reopen(), IsOk());
  EXPECT_EQ(cache_->KnownImages().size(), 1u);
  EXPECT_THAT(Attach("vm2", disk2_, "two", kMinShare), StatusIs(exhausted));
}

TEST_F(CacheTest, PowerCutWhileAnImageIsMadeHarmsNoOther) {
  ASSERT_THAT(Format(), IsOk());
  ASSERT_THAT(Open(), IsOk());
  ASSERT_THAT(Attach("vm1", disk1_, "one"), IsOk());
  ASSERT_THAT(cache_->Close(), IsOk());
  cache_.reset();
  for (uint64_t seed = 0; seed < 8; ++seed) {
    for (uint64_t stop = 3; stop < 13; ++stop) {
      SCOPED_TRACE(testing::Message() << "stop " << stop << ", seed " << seed);
      auto device = device_.Fork();
      device->StopAt(stop);
      ScriptedDisk disk(8 * kMiB);
      {
        auto cache = Cache::Open(*device, kNoThreads, clock_);
        if (cache.ok()) {
          (void)(*cache)->Attach("vm2", disk.Open("two"),
                                 {.cache_size = 10 * kMiB});
        }
      }
      device->Stop();
      Random random(seed);
      device->CutPower(random);

      auto cache = Cache::Open(*device, kNoThreads, clock_);
      ASSERT_THAT(cache, IsOk());
      EXPECT_THAT((*cache)->Attach("vm1", disk1_.Open("one"), {}), IsOk());
      EXPECT_THAT(
          (*cache)->Attach("vm2", disk.Open("two"), {.cache_size = 10 * kMiB}),
          IsOk());
    }
  }
}

TEST_F(CacheTest, DamagedImageHarmsNoOther) {
  ASSERT_THAT(Format(), IsOk());
  ASSERT_THAT(Open(), IsOk());
  ASSERT_THAT(Attach("vm1", disk1_, "one"), IsOk());
  ASSERT_THAT(Attach("vm2", disk2_, "two"), IsOk());
  const Geometry geometry = cache_->Find("vm1")->core().table().geometry();
  ASSERT_THAT(cache_->Close(), IsOk());
  cache_.reset();
  for (int slot : {0, 1}) {
    device_.FlipBit(geometry.log_tails(ImageId(0), slot).value() + 40, 1);
  }

  ASSERT_THAT(Open(), IsOk());

  EXPECT_THAT(Attach("vm1", disk1_, "one"),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(Attach("vm2", disk2_, "two"), IsOk());
}

TEST(CacheOfOneImage, GcPercentOutlivesEveryEnd) {
  // The ancestor lost it at each start: its second copy was written to a wrong
  // place.
  CoreMachine machine;
  ASSERT_THAT(machine.Start(), IsOk());
  EXPECT_EQ(machine.status().gc_percent, 70);
  int percent = 10;
  for (const auto end : {0, 1, 2, 0, 1, 2}) {
    ASSERT_THAT(machine.image().Change({.gc_percent = percent}), IsOk());
    if (end == 0) {
      ASSERT_THAT(machine.Stop(), IsOk());
    }
    if (end == 1) machine.Kill();
    if (end == 2) machine.CutPower(percent);
    ASSERT_THAT(machine.Start(), IsOk());
    EXPECT_EQ(machine.status().gc_percent, percent);
    percent += 7;
  }
  for (const int bad : {-1, 91, 256}) {
    EXPECT_THAT(machine.image().Change({.gc_percent = bad}),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST(CacheOfOneImage, FlushedDataOutlivesEveryEnd) {
  CoreMachine machine;
  ASSERT_THAT(machine.Start(), IsOk());
  for (uint64_t end = 0; end < 9; ++end) {
    const std::string bytes(10'000, static_cast<char>('a' + end));
    ASSERT_THAT(machine.Write(end * 5000 + 3, bytes), IsOk());
    ASSERT_THAT(machine.Flush(), IsOk());
    if (end % 3 == 0) {
      ASSERT_THAT(machine.Stop(), IsOk());
    }
    if (end % 3 == 1) machine.Kill();
    if (end % 3 == 2) machine.CutPower(end);
    ASSERT_THAT(machine.Start(), IsOk());
    EXPECT_THAT(machine.Read(end * 5000 + 3, bytes.size()),
                IsOkAndHolds(bytes));
  }
}

TEST(CacheOfOneImage, FailedPersistEndsAllPromisesUntilReopened) {
  CoreMachine machine;
  ASSERT_THAT(machine.Start(), IsOk());
  ASSERT_THAT(machine.Write(0, "kept"), IsOk());
  machine.cache_device().FailNth(FakeCacheDevice::kPersist, 0);
  const auto failed = StatusIs(absl::StatusCode::kUnavailable);

  EXPECT_THAT(machine.Flush(), failed);
  EXPECT_THAT(machine.Flush(), failed);
  EXPECT_THAT(machine.Write(0, "x"), failed);
  EXPECT_THAT(machine.Drain(), failed);
  EXPECT_THAT(machine.Read(0, 4), IsOkAndHolds("kept"));

  machine.Kill();
  ASSERT_THAT(machine.Start(), IsOk());
  EXPECT_THAT(machine.Flush(), IsOk());
  EXPECT_THAT(machine.Read(0, 4), IsOkAndHolds("kept"));
}

}  // namespace
}  // namespace pcachefs
