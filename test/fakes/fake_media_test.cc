// Proves that a simulated power cut keeps what it must keep, can do everything
// that the fault model allows, and never does more.

#include "test/fakes/fake_media.h"

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/fakes/cow_bytes.h"
#include "test/fakes/random.h"

namespace pcachefs {
namespace {

using ::testing::UnorderedElementsAre;

constexpr uint64_t kSize = 16 * 1024;

void Write(FakeMedia& media, uint64_t offset, uint64_t length, char fill) {
  const std::vector<std::byte> bytes(length, std::byte(fill));
  media.Write(offset, bytes);
}

// The bytes at the given offsets, '.' for zero.
std::string At(const CowBytes& bytes, const std::vector<uint64_t>& offsets) {
  std::string result;
  for (uint64_t offset : offsets) {
    std::byte value;
    bytes.Read(offset, {&value, 1});
    result += value == std::byte{0} ? '.' : static_cast<char>(value);
  }
  return result;
}

// What 2000 power cuts of copies of `media` leave at the given offsets.
std::set<std::string> Outcomes(const FakeMedia& media,
                               const std::vector<uint64_t>& offsets) {
  std::set<std::string> outcomes;
  for (int seed = 0; seed < 2000; ++seed) {
    FakeMedia copy = media;
    Random random(seed);
    copy.PowerCut(random);
    EXPECT_EQ(At(copy.visible(), offsets), At(copy.durable(), offsets));
    outcomes.insert(At(copy.visible(), offsets));
  }
  return outcomes;
}

TEST(CowBytes, CopyKeepsItsBytesWhenTheOriginalIsWritten) {
  CowBytes original(kSize);
  const std::vector<std::byte> bytes(600, std::byte('a'));
  original.Write(4000, bytes);
  const CowBytes copy = original;

  original.Zero(4000, 300);

  EXPECT_EQ(At(original, {3999, 4000, 4299, 4300, 4599, 4600}), "...aa.");
  EXPECT_EQ(At(copy, {3999, 4000, 4299, 4300, 4599, 4600}), ".aaaa.");
}

TEST(FakeMedia, WriteIsVisibleAtOnceAndDurableAfterPersist) {
  FakeMedia media(kSize, 512);
  Write(media, 512, 512, 'a');
  EXPECT_EQ(At(media.visible(), {512}), "a");
  EXPECT_EQ(At(media.durable(), {512}), ".");

  media.Persist();

  EXPECT_EQ(At(media.durable(), {512}), "a");
  EXPECT_THAT(Outcomes(media, {512}), UnorderedElementsAre("a"));
}

TEST(FakeMedia, PersistUpToCoversNoLaterWrite) {
  FakeMedia media(kSize, 512);
  Write(media, 0, 512, 'a');
  const uint64_t end = media.journal_end();
  Write(media, 512, 512, 'b');

  media.PersistUpTo(end);

  EXPECT_EQ(At(media.durable(), {0, 512}), "a.");
  EXPECT_THAT(Outcomes(media, {0, 512}), UnorderedElementsAre("a.", "ab"));
}

TEST(FakeMedia, PowerCutReordersAndTearsWrites) {
  FakeMedia media(kSize, 512);
  Write(media, 0, 1024, 'a');
  Write(media, 4096, 512, 'b');

  EXPECT_THAT(Outcomes(media, {0, 512, 4096}),
              UnorderedElementsAre("...", "a..", ".a.", "aa.", "..b", "a.b",
                                   ".ab", "aab"));
}

TEST(FakeMedia, PowerCutLeavesAnyVersionOfAnAtomAndNeverAMixture) {
  FakeMedia media(kSize, 512);
  Write(media, 0, 512, 'a');
  media.Persist();
  Write(media, 0, 512, 'b');
  media.Zero(0, 512);
  Write(media, 0, 512, 'c');

  EXPECT_THAT(Outcomes(media, {0, 511}),
              UnorderedElementsAre("aa", "bb", "..", "cc"));
}

TEST(FakeMedia, SmallerWritesOfAnAtomBuildOnEachOther) {
  FakeMedia media(kSize, 512);
  Write(media, 0, 64, 'a');
  Write(media, 64, 64, 'b');

  EXPECT_THAT(Outcomes(media, {0, 64}), UnorderedElementsAre("..", "a.", "ab"));
}

TEST(FakeMedia, MemoryTearsAtEightBytes) {
  FakeMedia media(kSize, 8);
  Write(media, 0, 16, 'a');

  EXPECT_THAT(Outcomes(media, {0, 7, 8, 15}),
              UnorderedElementsAre("....", "aa..", "..aa", "aaaa"));
}

TEST(FakeMedia, CopyIsIndependent) {
  FakeMedia media(kSize, 512);
  Write(media, 0, 512, 'a');
  FakeMedia copy = media;
  Write(media, 0, 512, 'b');

  copy.Persist();

  EXPECT_EQ(At(copy.durable(), {0}), "a");
  EXPECT_EQ(At(media.durable(), {0}), ".");
}

}  // namespace
}  // namespace pcachefs
