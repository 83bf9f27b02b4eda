// Those who flush after each write share barriers though their flushes come one
// by one.

#include "core/flush_pattern.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "core/image_core.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/fakes/fake_cache_device.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

TEST(FlushPattern, NothingIsExpectedAtFirst) {
  FlushPattern pattern;
  EXPECT_FALSE(pattern.expects_flush());
  for (int i = 0; i < 100; ++i) pattern.NoteWrite();
  EXPECT_FALSE(pattern.expects_flush());
}

TEST(FlushPattern, OneFlushForEachWrite) {
  FlushPattern pattern;
  for (int i = 0; i < 128; ++i) {
    EXPECT_FALSE(pattern.expects_flush());
    pattern.NoteWrite();
    pattern.NoteFlush();
  }
  EXPECT_TRUE(pattern.expects_flush());
}

TEST(FlushPattern, ManyWritesAtATimeThenManyFlushes) {
  FlushPattern pattern;
  for (const int jobs : {16, 64, 128}) {
    for (int round = 0; round < 256 / jobs; ++round) {
      for (int i = 0; i < jobs; ++i) pattern.NoteWrite();
      for (int i = 0; i < jobs; ++i) pattern.NoteFlush();
    }
    EXPECT_TRUE(pattern.expects_flush()) << jobs;
    for (int i = 0; i < jobs; ++i) pattern.NoteWrite();
    EXPECT_TRUE(pattern.expects_flush()) << jobs;
    for (int i = 0; i < jobs; ++i) pattern.NoteFlush();
  }
}

TEST(FlushPattern, TwoWritesForEachFlush) {
  FlushPattern pattern;
  for (int i = 0; i < 300; ++i) {
    pattern.NoteWrite();
    pattern.NoteWrite();
    pattern.NoteFlush();
    EXPECT_FALSE(pattern.expects_flush());
  }
}

TEST(FlushPattern, EndsAfterAFewWritesWithoutFlush) {
  FlushPattern pattern;
  for (int i = 0; i < 128; ++i) {
    pattern.NoteWrite();
    pattern.NoteFlush();
  }
  int writes = 0;
  while (pattern.expects_flush() && writes < 1000) {
    pattern.NoteWrite();
    ++writes;
  }
  EXPECT_LE(writes, 161);
}

TEST(FlushPattern, FlushesAloneTellNothing) {
  FlushPattern pattern;
  for (int i = 0; i < 300; ++i) pattern.NoteFlush();
  EXPECT_FALSE(pattern.expects_flush());
}

std::string Block(char letter) { return std::string(kBlockSize, letter); }

class FlushPatternInUse : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(machine_.Start(), IsOk());
    for (uint64_t i = 0; i < 128; ++i) {
      ASSERT_THAT(machine_.Write(i % 32 * kBlockSize, Block('a')), IsOk());
      ASSERT_THAT(machine_.Flush(), IsOk());
    }
    ASSERT_TRUE(machine_.core().flush_pattern().expects_flush());
  }
  uint64_t barriers() { return machine_.core().barrier().persist_count(); }

  CoreMachine machine_;
};

TEST_F(FlushPatternInUse, WritesOnTheirWayShareABarrierAndFlushesNeedNone) {
  const uint64_t before = barriers();
  std::vector<Pending> writes;
  for (uint64_t i = 0; i < 16; ++i) {
    writes.push_back(machine_.StartWrite(i * kBlockSize, Block('b')));
    EXPECT_FALSE(writes.back()->done);
  }
  ASSERT_TRUE(machine_.core().barrier().Step());
  for (const Pending& write : writes) {
    ASSERT_TRUE(write->done);
    EXPECT_THAT(write->status, IsOk());
  }
  EXPECT_EQ(barriers(), before + 1);

  for (int i = 0; i < 16; ++i) {
    const Pending flush = machine_.StartFlush();
    EXPECT_TRUE(flush->done);
    EXPECT_THAT(flush->status, IsOk());
  }
  EXPECT_EQ(barriers(), before + 1);
}

TEST_F(FlushPatternInUse, WhatWasAnsweredSurvivesAPowerCut) {
  ASSERT_THAT(machine_.Write(0, Block('b')), IsOk());
  machine_.CutPower(1);
  ASSERT_THAT(machine_.Start(), IsOk());
  EXPECT_THAT(machine_.Read(0, kBlockSize), IsOkAndHolds(Block('b')));
}

TEST_F(FlushPatternInUse, AFlushIsABoundaryAlsoWithoutABarrier) {
  ASSERT_THAT(machine_.Write(0, Block('b')), IsOk());
  ASSERT_THAT(machine_.Flush(), IsOk());
  ASSERT_THAT(machine_.Write(0, Block('c')), IsOk());

  ASSERT_THAT(machine_.Drain(), IsOk());

  // Between the two writes of the block.
  const std::vector<std::string>& history = machine_.disk().history();
  const auto first = std::find(history.begin(), history.end(), "write 0+4096");
  ASSERT_NE(first, history.end());
  EXPECT_GT(std::count(first, history.end(), "write 0+4096"), 1);
  const auto second = std::find(first + 1, history.end(), "write 0+4096");
  EXPECT_NE(std::find(first, second, "flush"), second);
}

TEST_F(FlushPatternInUse, AWriteBehindTheLastStepIsAnswered) {
  machine_.core().barrier().Stop();
  const Pending write = machine_.StartWrite(0, Block('b'));
  EXPECT_TRUE(write->done);
  EXPECT_THAT(write->status, IsOk());
}

TEST_F(FlushPatternInUse, AWriteWhoseBarrierFailsIsNotAcknowledged) {
  const Pending write = machine_.StartWrite(0, Block('b'));
  ASSERT_FALSE(write->done);
  machine_.cache_device().FailNth(FakeCacheDevice::kPersist, 0);
  EXPECT_FALSE(machine_.Await(write).ok());
}

}  // namespace
}  // namespace pcachefs
