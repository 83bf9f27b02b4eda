// Proves that the oracle accepts exactly the states that the promises allow:
// toy histories are played, every state that any subset of their writes could
// leave is judged, and the verdict is compared with the promise's own words
// evaluated by brute force.

#include "test/sim/reference_image.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/fakes/random.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;
using Kind = ReferenceImage::Kind;
using WriteId = ReferenceImage::WriteId;

constexpr uint64_t kSectors = 3;

ImageRange Range(uint64_t offset, uint64_t length) {
  return {ImageOffset(offset), length};
}

// An image of a few sectors, as some device holds it.
using State = std::vector<std::byte>;

State Blank() { return State(kSectors * kSectorSize); }

struct ToyWrite {
  ImageRange range;
  Kind kind = Kind::kBytes;
  WriteId id = 0;
};

void Apply(const ToyWrite& write, State& state) {
  const std::span<std::byte> place =
      std::span(state).subspan(write.range.offset.value(), write.range.length);
  if (write.kind == Kind::kZeroes) {
    std::fill(place.begin(), place.end(), std::byte{0});
  } else {
    ReferenceImage::Payload(write.id, write.range.offset.value(), place);
  }
}

absl::Status JudgePowerCut(ReferenceImage image, const State& state) {
  return image.JudgePowerCut([&](uint64_t offset, std::span<std::byte> out) {
    std::copy_n(state.begin() + offset, out.size(), out.begin());
  });
}

absl::Status JudgeDaemonCrash(ReferenceImage image, const State& state) {
  return image.JudgeDaemonCrash([&](uint64_t offset, std::span<std::byte> out) {
    std::copy_n(state.begin() + offset, out.size(), out.begin());
  });
}

absl::Status JudgeBacking(const ReferenceImage& image, const State& state) {
  return image.JudgeBacking([&](uint64_t offset, std::span<std::byte> out) {
    std::copy_n(state.begin() + offset, out.size(), out.begin());
  });
}

// A history without concurrency: writes in order, with flushes in between.
struct Toy {
  ReferenceImage image{kSectors * kSectorSize, Kind::kZeroes};
  std::vector<ToyWrite> writes;
  std::vector<size_t> flushes;  // number of writes before each

  void Write(uint64_t offset, uint64_t length, Kind kind = Kind::kBytes) {
    ToyWrite write = {Range(offset, length), kind};
    write.id = image.BeginWrite(write.range, kind);
    image.EndWrite(write.id, true);
    writes.push_back(write);
  }
  void Flush() {
    image.EndFlush(image.BeginFlush(), true);
    flushes.push_back(writes.size());
  }
  State Prefix(size_t count) const {
    State state = Blank();
    for (size_t i = 0; i < count; ++i) Apply(writes[i], state);
    return state;
  }
};

// Every state that some subset of the writes leaves, each sector of a write
// being there or not by itself.
std::set<State> AllStates(const Toy& toy, size_t first, size_t end) {
  std::set<State> states = {toy.Prefix(first)};
  for (size_t i = first; i < end; ++i) {
    const std::set<State> before = states;
    for (uint64_t sectors = 1; sectors < 1u << kSectors; ++sectors) {
      for (const State& state : before) {
        State after = state;
        Apply(toy.writes[i], after);
        for (uint64_t s = 0; s < kSectors; ++s) {
          if (sectors >> s & 1) continue;
          std::copy_n(state.begin() + s * kSectorSize, kSectorSize,
                      after.begin() + s * kSectorSize);
        }
        states.insert(std::move(after));
      }
    }
  }
  return states;
}

Toy RandomToy(uint64_t seed, size_t count) {
  Random random(seed);
  Toy toy;
  for (size_t i = 0; i < count; ++i) {
    if (random.Percent(25)) toy.Flush();
    const uint64_t first = random.Below(kSectors);
    const uint64_t sectors = random.Between(1, kSectors - first);
    const Kind kind = random.Percent(25) ? Kind::kZeroes : Kind::kBytes;
    toy.Write(first * kSectorSize, sectors * kSectorSize, kind);
  }
  return toy;
}

TEST(ReferenceImage, PowerCutJudgementIsExactlyThePrefixPromise) {
  int accepted = 0;
  int rejected = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const Toy toy = RandomToy(seed, 4);
    // A disk may tear the write at the cut, hence AllStates of one write.
    std::set<State> legal;
    const size_t flushed = toy.flushes.empty() ? 0 : toy.flushes.back();
    legal.insert(toy.Prefix(flushed));
    for (size_t k = flushed; k < toy.writes.size(); ++k) {
      legal.merge(AllStates(toy, k, k + 1));
    }
    for (const State& state : AllStates(toy, 0, toy.writes.size())) {
      const absl::Status verdict = JudgePowerCut(toy.image, state);
      ASSERT_EQ(verdict.ok(), legal.count(state) > 0)
          << "seed " << seed << ": " << verdict;
      ++(verdict.ok() ? accepted : rejected);
    }
  }
  EXPECT_GT(accepted, 500);
  EXPECT_GT(rejected, 500);
}

TEST(ReferenceImage, BackingJudgementIsExactlyTheStrictOrderPromise) {
  int accepted = 0;
  int rejected = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const Toy toy = RandomToy(seed, 5);
    std::vector<size_t> boundaries = {0};
    for (size_t flush : toy.flushes) boundaries.push_back(flush);
    boundaries.push_back(toy.writes.size());
    std::set<State> legal;
    for (size_t i = 0; i + 1 < boundaries.size(); ++i) {
      legal.merge(AllStates(toy, boundaries[i], boundaries[i + 1]));
    }
    for (const State& state : AllStates(toy, 0, toy.writes.size())) {
      const absl::Status verdict = JudgeBacking(toy.image, state);
      ASSERT_EQ(verdict.ok(), legal.count(state) > 0)
          << "seed " << seed << ": " << verdict;
      ++(verdict.ok() ? accepted : rejected);
    }
  }
  EXPECT_GT(accepted, 500);
  EXPECT_GT(rejected, 500);
}

TEST(ReferenceImage, DaemonCrashLosesNothingAcknowledged) {
  const Toy toy = RandomToy(3, 4);
  int accepted = 0;
  for (const State& state : AllStates(toy, 0, toy.writes.size())) {
    const bool all = state == toy.Prefix(toy.writes.size());
    EXPECT_EQ(JudgeDaemonCrash(toy.image, state).ok(), all);
    accepted += all;
  }
  EXPECT_EQ(accepted, 1);
}

TEST(ReferenceImage, ReadReturnsTheLastAcknowledgedWrite) {
  Toy toy;
  toy.Write(0, 512);
  toy.Write(100, 50);  // a part of the sector
  State state = toy.Prefix(2);
  EXPECT_THAT(toy.image.EndRead(toy.image.BeginRead(), Range(90, 100),
                                std::span(state).subspan(90, 100)),
              IsOk());

  state = toy.Prefix(1);

  EXPECT_THAT(toy.image.EndRead(toy.image.BeginRead(), Range(90, 100),
                                std::span(state).subspan(90, 100)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("of write 1")));
}

TEST(ReferenceImage, ReadMayReturnEitherStateOfAWriteInFlight) {
  ReferenceImage image(kSectors * kSectorSize, Kind::kZeroes);
  const uint64_t read = image.BeginRead();
  const WriteId id = image.BeginWrite(Range(0, 512), Kind::kBytes);
  State written = Blank();
  Apply({Range(0, 512), Kind::kBytes, id}, written);

  ReferenceImage copy = image;
  EXPECT_THAT(copy.EndRead(read, Range(0, 1536), Blank()), IsOk());
  EXPECT_THAT(copy.EndRead(read, Range(0, 1536), written), IsOk());
  // The read began before the write ended, so that both remain.
  image.EndWrite(id, true);
  EXPECT_THAT(image.EndRead(read, Range(0, 1536), Blank()), IsOk());
  EXPECT_FALSE(image.EndRead(image.BeginRead(), Range(0, 1536), Blank()).ok());
}

TEST(ReferenceImage, OrderOfConcurrentWritesHoldsOnceItWasSeen) {
  ReferenceImage image(kSectors * kSectorSize, Kind::kZeroes);
  const WriteId a = image.BeginWrite(Range(0, 512), Kind::kBytes);
  const WriteId b = image.BeginWrite(Range(0, 512), Kind::kBytes);
  image.EndWrite(b, true);
  image.EndWrite(a, true);
  State has_a = Blank();
  State has_b = Blank();
  Apply({Range(0, 512), Kind::kBytes, a}, has_a);
  Apply({Range(0, 512), Kind::kBytes, b}, has_b);
  EXPECT_THAT(JudgeDaemonCrash(image, has_a), IsOk());
  EXPECT_THAT(JudgeDaemonCrash(image, has_b), IsOk());

  ASSERT_THAT(image.EndRead(image.BeginRead(), Range(0, 1536), has_a), IsOk());

  EXPECT_THAT(JudgeDaemonCrash(image, has_a), IsOk());
  EXPECT_FALSE(JudgeDaemonCrash(image, has_b).ok());
  EXPECT_THAT(JudgePowerCut(image, has_b), IsOk());  // a was not flushed
}

TEST(ReferenceImage, WritesInFlightMaySurviveInEitherOrder) {
  ReferenceImage image(kSectors * kSectorSize, Kind::kZeroes);
  const WriteId a = image.BeginWrite(Range(0, 512), Kind::kBytes);
  const WriteId b = image.BeginWrite(Range(512, 512), Kind::kBytes);
  image.EndWrite(b, true);
  image.EndWrite(a, true);
  const WriteId c = image.BeginWrite(Range(1024, 512), Kind::kBytes);
  const ToyWrite write_a = {Range(0, 512), Kind::kBytes, a};
  const ToyWrite write_b = {Range(512, 512), Kind::kBytes, b};
  const ToyWrite write_c = {Range(1024, 512), Kind::kBytes, c};
  const auto state = [](std::vector<ToyWrite> writes) {
    State result = Blank();
    for (const ToyWrite& write : writes) Apply(write, result);
    return result;
  };

  EXPECT_THAT(JudgePowerCut(image, state({write_a})), IsOk());
  EXPECT_THAT(JudgePowerCut(image, state({write_b})), IsOk());
  EXPECT_THAT(JudgePowerCut(image, state({write_a, write_b, write_c})), IsOk());
  EXPECT_FALSE(JudgePowerCut(image, state({write_a, write_c})).ok());
  EXPECT_FALSE(JudgePowerCut(image, state({write_c})).ok());
}

TEST(ReferenceImage, WhatAPowerCutLeftIsDurable) {
  Toy toy;
  toy.Write(0, 512);
  toy.Write(512, 512);
  const State one = toy.Prefix(1);
  const auto reader = [](const State& state) {
    return [&state](uint64_t offset, std::span<std::byte> out) {
      std::copy_n(state.begin() + offset, out.size(), out.begin());
    };
  };
  ASSERT_THAT(toy.image.JudgePowerCut(reader(one)), IsOk());

  EXPECT_THAT(JudgePowerCut(toy.image, one), IsOk());
  EXPECT_FALSE(JudgePowerCut(toy.image, Blank()).ok());
  // The second write was lost and must not come back.
  EXPECT_FALSE(JudgePowerCut(toy.image, toy.Prefix(2)).ok());
  EXPECT_FALSE(JudgeBacking(toy.image, toy.Prefix(2)).ok());
  // The backing device may lag behind what the cache kept.
  EXPECT_THAT(JudgeBacking(toy.image, Blank()), IsOk());
}

TEST(ReferenceImage, FailedFlushPromisesNothingAndFailedWriteMayBeThere) {
  Toy toy;
  toy.Write(0, 512);
  toy.image.EndFlush(toy.image.BeginFlush(), false);
  EXPECT_THAT(JudgePowerCut(toy.image, Blank()), IsOk());

  const WriteId failed = toy.image.BeginWrite(Range(512, 512), Kind::kBytes);
  toy.image.EndWrite(failed, false);
  State with = toy.Prefix(1);
  Apply({Range(512, 512), Kind::kBytes, failed}, with);

  EXPECT_THAT(JudgeDaemonCrash(toy.image, toy.Prefix(1)), IsOk());
  EXPECT_THAT(JudgeDaemonCrash(toy.image, with), IsOk());
  EXPECT_FALSE(toy.image.CanWrite(Range(600, 10)));
  EXPECT_TRUE(toy.image.CanWrite(Range(512, 512)));
}

TEST(ReferenceImage, DrainedBackingEqualsTheImage) {
  Toy toy;
  toy.Write(0, 1024);
  toy.Write(512, 512, Kind::kZeroes);
  const auto judge = [&](const State& state) {
    return toy.image.JudgeDrained(
        [&](uint64_t offset, std::span<std::byte> out) {
          std::copy_n(state.begin() + offset, out.size(), out.begin());
        });
  };
  EXPECT_THAT(judge(toy.Prefix(2)), IsOk());
  EXPECT_FALSE(judge(toy.Prefix(1)).ok());
  State stray = toy.Prefix(2);
  stray.back() = std::byte{1};
  EXPECT_THAT(judge(stray), StatusIs(absl::StatusCode::kDataLoss,
                                     HasSubstr("never written")));
}

}  // namespace
}  // namespace pcachefs
