// Proves that the simulated cache device keeps the contract of CacheDevice and
// fails as its header says.

#include "test/fakes/fake_cache_device.h"

#include <cstddef>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/fakes/random.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::UnorderedElementsAre;

constexpr FakeCacheDevice::Options kOptions = {.size = 64 * 1024};

absl::Status Write(FakeCacheDevice& device, uint64_t offset, uint64_t length,
                   char fill) {
  const std::vector<std::byte> bytes(length, std::byte(fill));
  return device.Write(MediaOffset(offset), bytes);
}

// The byte at `offset`, or '!' if it cannot be read.
char At(FakeCacheDevice& device, uint64_t offset) {
  std::byte value;
  if (!device.Read(MediaOffset(offset), {&value, 1}).ok()) return '!';
  return static_cast<char>(value);
}

TEST(FakeCacheDevice, RejectsRangesBeyondTheEnd) {
  FakeCacheDevice device(kOptions);
  EXPECT_THAT(Write(device, 64 * 1024 - 1, 2, 'a'),
              StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_EQ(At(device, 64 * 1024), '!');
}

TEST(FakeCacheDevice, PowerCutKeepsWhatWasPersisted) {
  FakeCacheDevice device(kOptions);
  ASSERT_THAT(Write(device, 0, 512, 'a'), IsOk());
  ASSERT_THAT(device.Persist(), IsOk());

  std::set<char> outcomes;
  for (int seed = 0; seed < 100; ++seed) {
    auto fork = device.Fork();
    ASSERT_THAT(Write(*fork, 0, 512, 'b'), IsOk());
    Random random(seed);
    fork->CutPower(random);
    outcomes.insert(At(*fork, 0));
  }
  EXPECT_THAT(outcomes, UnorderedElementsAre('a', 'b'));
}

TEST(FakeCacheDevice, StopAtLeavesTheWriteToChance) {
  std::set<std::string> outcomes;
  for (int seed = 0; seed < 200; ++seed) {
    FakeCacheDevice device(kOptions);
    bool stopped = false;
    device.set_on_stop([&] { stopped = true; });
    device.StopAt(1);
    ASSERT_THAT(Write(device, 0, 512, 'a'), IsOk());
    ASSERT_THAT(Write(device, 512, 512, 'b'),
                StatusIs(absl::StatusCode::kUnavailable));
    ASSERT_TRUE(stopped);
    ASSERT_THAT(Write(device, 1024, 512, 'c'),
                StatusIs(absl::StatusCode::kUnavailable));
    ASSERT_THAT(device.Persist(), StatusIs(absl::StatusCode::kUnavailable));
    ASSERT_EQ(At(device, 0), '!');

    Random random(seed);
    device.CutPower(random);

    std::string outcome;
    for (uint64_t offset : {0, 512, 1024}) {
      outcome += At(device, offset) == 0 ? '.' : At(device, offset);
    }
    outcomes.insert(outcome);
  }
  EXPECT_THAT(outcomes, UnorderedElementsAre("...", "a..", ".b.", "ab."));
}

TEST(FakeCacheDevice, EveryPersistFailsAfterAFailedOne) {
  FakeCacheDevice device(kOptions);
  device.FailNth(FakeCacheDevice::kPersist, 1);
  EXPECT_THAT(device.Persist(), IsOk());
  EXPECT_THAT(device.Persist(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(device.Persist(), StatusIs(absl::StatusCode::kUnavailable));

  device.Restart();

  EXPECT_THAT(device.Persist(), IsOk());
}

TEST(FakeCacheDevice, FailsByRangeAndReads) {
  FakeCacheDevice device(kOptions);
  device.FailRange(FakeCacheDevice::kRead | FakeCacheDevice::kWrite, 4096, 512);
  EXPECT_EQ(At(device, 4095), '\0');
  EXPECT_EQ(At(device, 4096), '!');
  EXPECT_THAT(Write(device, 4000, 100, 'a'),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_TRUE(device.fault_fired());

  device.ClearFaults();

  EXPECT_NE(At(device, 4096), '!');
}

TEST(FakeCacheDevice, AsynchronousReadsCompleteInAnyOrderByStep) {
  std::set<std::string> orders;
  for (int seed = 0; seed < 50; ++seed) {
    FakeCacheDevice device({.size = 64 * 1024, .seed = uint64_t(seed)});
    std::string order;
    std::byte out[2];
    for (int i = 0; i < 2; ++i) {
      device.ReadAsync(
          MediaOffset(0), {&out[i], 1}, [&order, i](absl::Status status) {
            order += status.ok() ? static_cast<char>('0' + i) : '!';
          });
    }
    EXPECT_EQ(order, "");
    while (device.Step()) {
    }
    orders.insert(order);
  }
  EXPECT_THAT(orders, UnorderedElementsAre("01", "10"));
}

TEST(FakeCacheDevice, ShortReadsArriveInPieces) {
  FakeCacheDevice device({.size = 64 * 1024, .short_percent = 50});
  ASSERT_THAT(Write(device, 0, 4096, 'a'), IsOk());
  std::vector<std::byte> out(4096);
  int answers = 0;
  device.ReadAsync(MediaOffset(0), out, [&](absl::Status status) {
    EXPECT_THAT(status, IsOk());
    ++answers;
  });
  while (device.Step()) {
  }
  EXPECT_EQ(answers, 1);
  EXPECT_GT(device.short_transfers(), 0u);
  EXPECT_EQ(out, std::vector<std::byte>(4096, std::byte{'a'}));
}

TEST(FakeCacheDevice, DeathInAShortWriteLeavesABeginning) {
  FakeCacheDevice device({.size = 64 * 1024, .short_percent = 100});
  ASSERT_THAT(Write(device, 0, 4096, 'a'), IsOk());
  device.StopAt(0);
  EXPECT_FALSE(Write(device, 0, 4096, 'b').ok());
  device.Restart();
  EXPECT_EQ(At(device, 0), 'b');
  EXPECT_EQ(At(device, 4095), 'a');
}

TEST(FakeCacheDevice, FullDeviceTakesOverwritesOnlyUntilThereIsRoom) {
  FakeCacheDevice device(kOptions);
  ASSERT_THAT(Write(device, 0, 4096, 'a'), IsOk());
  device.set_full(true);

  EXPECT_THAT(Write(device, 0, 4096, 'b'), IsOk());
  EXPECT_FALSE(device.fault_fired());
  EXPECT_THAT(Write(device, 2048, 4096, 'c'),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_TRUE(device.fault_fired());
  EXPECT_EQ(At(device, 2048), 'c');  // as far as there was room
  device.Restart();
  EXPECT_FALSE(Write(device, 4096, 512, 'd').ok());

  device.set_full(false);
  EXPECT_THAT(Write(device, 4096, 512, 'd'), IsOk());
  EXPECT_EQ(At(device, 4096), 'd');
}

TEST(FakeCacheDevice, TryReadSometimesAnswersFalse) {
  FakeCacheDevice device({.size = 4096, .try_read_miss_percent = 50});
  int hits = 0;
  for (int i = 0; i < 100; ++i) {
    std::byte value;
    const auto hit = device.TryRead(MediaOffset(0), {&value, 1});
    ASSERT_THAT(hit, IsOk());
    hits += *hit;
  }
  EXPECT_GT(hits, 20);
  EXPECT_LT(hits, 80);
}

TEST(FakeCacheDevice, ViewFollowsWritesAndRot) {
  FakeCacheDevice device({.size = 4096, .mapped = true});
  const std::byte* view = device.View(MediaOffset(8), 8);
  ASSERT_NE(view, nullptr);
  ASSERT_THAT(Write(device, 0, 16, 'a'), IsOk());
  EXPECT_EQ(view[0], std::byte{'a'});

  device.FlipBit(8, 1);

  EXPECT_EQ(view[0], std::byte{'a' ^ 2});
  EXPECT_EQ(At(device, 8), 'a' ^ 2);
}

TEST(FakeCacheDevice, HookSeesEachChangeAndMayFork) {
  FakeCacheDevice device(kOptions);
  std::string seen;
  device.set_hook([&] { seen += At(*device.Fork(), 0); });

  ASSERT_THAT(Write(device, 0, 1, 'a'), IsOk());
  ASSERT_THAT(Write(device, 0, 1, 'b'), IsOk());
  ASSERT_THAT(device.Persist(), IsOk());

  EXPECT_EQ(seen, "abb");
  EXPECT_EQ(device.changes(), 3);
}

}  // namespace
}  // namespace pcachefs
