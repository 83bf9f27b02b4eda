// Proves where a log ends after a crash, that damage is never taken for that
// end, and that what a start rebuilds is what there was (C1, C7).

#include <array>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/geometry.h"
#include "meta/key_set.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/media_editor.h"
#include "test/fakes/fake_clock.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kBlock = kBlockSize;

std::string Block(char letter) { return std::string(kBlock, letter); }

class ReplayTest : public testing::Test {
 protected:
  ReplayTest() {
    machine_.disk().Fill(0, std::string(machine_.disk().size(), 'd'));
  }
  void SetUp() override { ASSERT_THAT(machine_.Start(), IsOk()); }

  // Writes a block, which is one set of the log; the set's place.
  LogPosition WriteBlock(uint64_t index, char letter) {
    const LogPosition position = machine_.core().log().head();
    EXPECT_THAT(machine_.Write(index * kBlock, Block(letter)), IsOk());
    return position;
  }
  void WriteAndFlush(uint64_t index, char letter) {
    WriteBlock(index, letter);
    EXPECT_THAT(machine_.Flush(), IsOk());
  }
  // So long that the log tells what is durable though nothing is appended.
  void Rest() {
    for (int i = 0; i < 4; ++i) {
      machine_.clock().Advance(absl::Seconds(2));
      EXPECT_TRUE(machine_.RunIdle());
    }
  }
  // The first blocks of the image, a letter for each; '!' for an error.
  std::string Letters(uint64_t count) {
    std::string letters;
    for (uint64_t i = 0; i < count; ++i) {
      const auto bytes = machine_.Read(i * kBlock, kBlock);
      letters += !bytes.ok()                       ? "!"
                 : *bytes == Block(bytes->front()) ? bytes->substr(0, 1)
                                                   : "?";
    }
    return letters;
  }
  Geometry geometry() { return machine_.core().table().geometry(); }

  CoreMachine machine_;
};

TEST_F(ReplayTest, EverythingIsThereAfterADeathOfTheDaemon) {
  for (uint64_t i = 0; i < 5; ++i) WriteBlock(i, 'a' + i);
  ASSERT_THAT(machine_.Zero(kBlock, kBlock), IsOk());
  const uint64_t dirty = machine_.status().dirty_bytes;

  machine_.Kill();
  ASSERT_THAT(machine_.Start(), IsOk());

  EXPECT_EQ(machine_.status().dirty_bytes, dirty);
  EXPECT_EQ(Letters(6), std::string("a\0cded", 6));
  EXPECT_EQ(machine_.status().replay.keys, 6u);
  EXPECT_EQ(machine_.status().replay.verified_bytes, 5 * kBlock);
}

TEST_F(ReplayTest, EachStartIsANewIncarnation) {
  const Incarnation first = machine_.status().incarnation;

  machine_.Kill();
  ASSERT_THAT(machine_.Start(), IsOk());

  EXPECT_GT(machine_.status().incarnation, first);
}

TEST_F(ReplayTest, DamagedDurableSetIsNamedAndNothingIsTruncated) {
  const LogPosition position = WriteBlock(0, 'a');
  ASSERT_THAT(machine_.Flush(), IsOk());
  WriteAndFlush(1, 'b');
  WriteAndFlush(2, 'c');
  const uint64_t place = machine_.PlaceOf(position);
  machine_.Kill();
  machine_.Corrupt(place + 20);

  const auto damaged = StatusIs(
      absl::StatusCode::kDataLoss,
      AllOf(HasSubstr(absl::StrCat("segment ", position.segment.value(), " at ",
                                   position.offset.value())),
            HasSubstr(absl::StrCat("key set ", position.sequence.value())),
            HasSubstr("vm1")));
  EXPECT_THAT(machine_.Start(), damaged);
  EXPECT_THAT(machine_.Start(), damaged) << "the first start changed something";

  machine_.Corrupt(place + 20);  // back
  ASSERT_THAT(machine_.Start(), IsOk());
  EXPECT_EQ(Letters(3), "abc");
}

TEST_F(ReplayTest, EveryDamagedByteOfADurableSetIsFound) {
  const LogPosition position = WriteBlock(0, 'a');
  ASSERT_THAT(machine_.Flush(), IsOk());
  WriteAndFlush(1, 'b');
  const uint64_t place = machine_.PlaceOf(position);
  const uint64_t length =
      machine_.PlaceOf(machine_.core().log().head()) - place;
  machine_.Kill();

  for (uint64_t at = 0; at < length / 2; ++at) {
    machine_.Corrupt(place + at);
    EXPECT_THAT(machine_.Start(), StatusIs(absl::StatusCode::kDataLoss)) << at;
    machine_.Corrupt(place + at);
  }
}

TEST_F(ReplayTest, BrokenLastSetThatNobodyFlushedIsATornEnd) {
  WriteAndFlush(0, 'a');
  const uint64_t place = machine_.PlaceOf(WriteBlock(1, 'b'));
  machine_.Kill();
  machine_.Corrupt(place + 20);

  ASSERT_THAT(machine_.Start(), IsOk());

  EXPECT_EQ(Letters(2), "ad");
}

TEST_F(ReplayTest, BrokenLastSetOfALogAtRestIsDamage) {
  const uint64_t place = machine_.PlaceOf(WriteBlock(0, 'a'));
  ASSERT_THAT(machine_.Flush(), IsOk());
  Rest();
  machine_.Kill();
  machine_.Corrupt(place + 20);

  EXPECT_THAT(machine_.Start(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("were durable")));
}

TEST_F(ReplayTest, CleanStopWithoutItsHeadIsDamage) {
  const uint64_t place = machine_.PlaceOf(WriteBlock(0, 'a'));
  ASSERT_THAT(machine_.Stop(), IsOk());
  machine_.Corrupt(place + 20);

  EXPECT_THAT(machine_.Start(), StatusIs(absl::StatusCode::kDataLoss,
                                         HasSubstr("key log damaged")));
}

TEST_F(ReplayTest, KeyWithoutItsPayloadEndsTheLog) {
  WriteAndFlush(0, 'a');
  WriteBlock(1, 'b');
  const uint64_t place = machine_.PlaceOf(kBlock);
  WriteBlock(2, 'c');
  machine_.Kill();
  machine_.Corrupt(place);  // C1: as if a power cut had lost it

  ASSERT_THAT(machine_.Start(), IsOk());

  EXPECT_EQ(Letters(3), "add") << "history has a gap";
  EXPECT_EQ(machine_.status().replay.dropped_key_sets, 2u);
}

TEST_F(ReplayTest, BadPayloadOfADurableKeyIsNoEndOfTheLog) {
  machine_.disk().set_automatic(false);  // all stays dirty
  WriteAndFlush(0, 'a');
  const uint64_t place = machine_.PlaceOf(0);
  WriteAndFlush(1, 'b');
  WriteAndFlush(2, 'c');
  machine_.Kill();
  machine_.Corrupt(place);

  ASSERT_THAT(machine_.Start(), IsOk());

  EXPECT_EQ(Letters(3), "!bc");
}

TEST_F(ReplayTest, DroppedSetsNeverComeBack) {
  WriteAndFlush(0, 'a');
  WriteBlock(1, 'b');
  const uint64_t place = machine_.PlaceOf(kBlock);
  WriteBlock(2, 'c');
  WriteBlock(3, 'd');
  machine_.Kill();
  machine_.Corrupt(place);
  ASSERT_THAT(machine_.Start(), IsOk());
  ASSERT_EQ(Letters(4), "addd");

  // Its set is as long as the dropped one of 'b', so that the sets of 'c' and
  // on stand, with their right numbers, right behind it.
  WriteBlock(5, 'n');
  machine_.Kill();
  ASSERT_THAT(machine_.Start(), IsOk());

  EXPECT_EQ(Letters(6), "addddn");
}

TEST_F(ReplayTest, StaleKeyTakesOlderKeysOfItsRangeAlong) {
  // Two keys of one range, in different segments. Both were written back and
  // passed by reclaim, but a power cut kept only the new generation of the
  // newer key's segment, neither key_tail nor the older key's segment. Serving
  // the older key would bring back what was overwritten (C7).
  WriteBlock(0, 'o');
  ASSERT_THAT(machine_.Write(2 * kMiB, std::string(kMiB, 'f')), IsOk());
  WriteBlock(0, 'n');
  const uint64_t segment_size = geometry().segment_size();
  const SegmentId newer(static_cast<uint32_t>(
      (machine_.PlaceOf(0) - geometry().metadata_bytes()) / segment_size));
  ASSERT_THAT(machine_.Drain(), IsOk());
  const Geometry layout = geometry();
  ASSERT_THAT(machine_.Stop(), IsOk());
  EditSegment(
      machine_.cache_device(), layout, newer, [](SegmentRecord& record) {
        record = {.generation = Generation(record.generation.value() + 1)};
      });

  ASSERT_THAT(machine_.Start(), IsOk());

  EXPECT_EQ(Letters(1), "n");
  EXPECT_GT(machine_.status().replay.stale_keys, 0u);
}

TEST_F(ReplayTest, KeyOfAGenerationThatNeverWasIsDamage) {
  const Geometry layout = geometry();
  machine_.Kill();
  for (uint32_t i = 0; i < layout.segment_count(); ++i) {
    EditSegment(machine_.cache_device(), layout, SegmentId(i),
                [](SegmentRecord& record) {
                  if (record.use == SegmentUse::kFree) {
                    record.generation = Generation(7);
                  }
                });
  }
  ASSERT_THAT(machine_.Start(), IsOk());
  WriteAndFlush(0, 'a');
  const SegmentId segment(static_cast<uint32_t>(
      (machine_.PlaceOf(0) - layout.metadata_bytes()) / layout.segment_size()));
  ASSERT_THAT(machine_.Stop(), IsOk());
  EditSegment(machine_.cache_device(), layout, segment,
              [](SegmentRecord& record) { record.generation = Generation(6); });

  EXPECT_THAT(machine_.Start(),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr(absl::StrCat("names segment ", segment.value(),
                                              " generation 7"))));
}

TEST_F(ReplayTest, SegmentThatIsNotTheImagesIsDamage) {
  WriteAndFlush(0, 'a');
  const Geometry layout = geometry();
  const SegmentId segment(static_cast<uint32_t>(
      (machine_.PlaceOf(0) - layout.metadata_bytes()) / layout.segment_size()));
  ASSERT_THAT(machine_.Stop(), IsOk());
  EditSegment(machine_.cache_device(), layout, segment,
              [](SegmentRecord& record) {
                record.use = SegmentUse::kLog;
                record.first_sequence = SequenceNumber(1);
              });

  EXPECT_THAT(machine_.Start(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("for payload")));
}

TEST_F(ReplayTest, TailsThatPointNowhereAreDamage) {
  WriteAndFlush(0, 'a');
  const Geometry layout = geometry();
  ASSERT_THAT(machine_.Stop(), IsOk());
  const auto start_with = [&](const std::function<void(LogTails&)>& edit) {
    auto copy = machine_.cache_device().Fork();
    EditTails(*copy, layout, ImageId(0), edit);
    FakeClock clock;
    auto cache = Cache::Open(*copy, {.start_threads = false}, clock);
    EXPECT_THAT(cache, IsOk());
    return (*cache)->Attach("vm1", machine_.disk().Open(), {}).status();
  };
  const auto damage = StatusIs(absl::StatusCode::kDataLoss);

  EXPECT_THAT(start_with([](LogTails&) {}), IsOk());
  EXPECT_THAT(start_with([](LogTails& tails) {
                tails.key_tail.segment = SegmentId(1'000'000);
              }),
              damage);
  EXPECT_THAT(start_with([](LogTails& tails) {
                tails.key_tail.generation = Generation(99);
              }),
              damage);
  EXPECT_THAT(start_with([](LogTails& tails) {
                tails.dirty_tail.segment = SegmentId(1'000'000);
              }),
              damage);
  EXPECT_THAT(start_with([](LogTails& tails) {
                tails.dirty_tail.offset = SegmentOffset(8);
              }),
              damage);
  EXPECT_THAT(start_with([](LogTails& tails) {
                tails.key_head.sequence = SequenceNumber(1000);
                tails.dirty_tail.sequence = SequenceNumber(1000);
              }),
              damage);
  EXPECT_THAT(start_with([](LogTails& tails) { tails.image = ImageTag(1); }),
              damage);
}

// Nothing of ours ends there: what is appended would stand in the next segment.
TEST_F(ReplayTest, SetThatLeavesNoRoomForALinkIsDamage) {
  WriteAndFlush(0, 'a');
  const LogPosition tail = machine_.core().tails().key_tail();
  const Geometry layout = geometry();
  const ImageTag tag = machine_.core().tag();
  machine_.Kill();
  std::array<std::byte, 64> buffer;
  KeySetBuilder builder(buffer);
  ASSERT_TRUE(builder.Add({.kind = KeyKind::kForget,
                           .range = {ImageOffset(0), kSectorSize}},
                          {}));
  const auto set = builder.Seal({.sequence = tail.sequence,
                                 .incarnation = Incarnation(1),
                                 .image = tag});
  for (const uint32_t end : {0, 8, 48, 56}) {
    auto copy = machine_.cache_device().Fork();
    const SegmentOffset offset(layout.segment_size() - end - set.size());
    ASSERT_THAT(
        copy->Write(layout.position({tail.segment, offset}), set), IsOk());
    EditTails(*copy, layout, ImageId(0), [&](LogTails& tails) {
      tails.key_tail = tails.dirty_tail = tails.key_head = tail;
      tails.key_tail.offset = tails.dirty_tail.offset = offset;
      tails.committed = tail.sequence;
    });
    FakeClock clock;
    auto cache = Cache::Open(*copy, {.start_threads = false}, clock);
    ASSERT_THAT(cache, IsOk());
    const absl::Status attached =
        (*cache)->Attach("vm1", machine_.disk().Open(), {}).status();
    EXPECT_EQ(attached.ok(), end == kLinkSetSize) << end << ": " << attached;
  }
}

TEST_F(ReplayTest, BothCopiesOfTheTailsDamagedIsDamage) {
  const Geometry layout = geometry();
  machine_.Kill();
  for (int slot : {0, 1}) {
    machine_.Corrupt(layout.log_tails(ImageId(0), slot).value() + 30);
  }

  EXPECT_THAT(machine_.Start(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("log tails")));
}

// A log of two segments.
class ReplayOverLinksTest : public ReplayTest {
 protected:
  void FillFirstLogSegment() {
    const SegmentId first = machine_.core().log().head().segment;
    for (uint64_t i = 0; machine_.core().log().head().segment == first; ++i) {
      ASSERT_LT(i, 100'000u);
      ASSERT_TRUE(machine_.StartDiscard(i % 100 * kBlock, kBlock)->done);
    }
    WriteBlock(0, 'l');
  }
  void LoseRecordOfLastLogSegment() {
    const Geometry layout = geometry();
    const SegmentId last = machine_.core().log().head().segment;
    machine_.Kill();
    EditSegment(machine_.cache_device(), layout, last,
                [](SegmentRecord& record) {
                  record = {.generation = record.generation};
                });
  }
};

TEST_F(ReplayOverLinksTest, LogGoesOnBehindALink) {
  FillFirstLogSegment();
  machine_.Kill();

  ASSERT_THAT(machine_.Start(), IsOk());

  EXPECT_EQ(Letters(2), std::string("l\0", 2));
  EXPECT_EQ(machine_.status().replay.key_sets,
            machine_.status().key_head.sequence.value() - 1);
}

TEST_F(ReplayOverLinksTest, LinkWhoseTargetWasNeverDurableEndsTheLog) {
  FillFirstLogSegment();
  LoseRecordOfLastLogSegment();

  ASSERT_THAT(machine_.Start(), IsOk());

  EXPECT_EQ(Letters(1), std::string(1, '\0'));
  WriteAndFlush(0, 'n');
  machine_.Kill();
  ASSERT_THAT(machine_.Start(), IsOk());
  EXPECT_EQ(Letters(1), "n");
}

TEST_F(ReplayOverLinksTest, LinkWhoseTargetWasDurableAndIsGoneIsDamage) {
  FillFirstLogSegment();
  ASSERT_THAT(machine_.Flush(), IsOk());
  Rest();
  LoseRecordOfLastLogSegment();

  EXPECT_THAT(machine_.Start(), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace pcachefs
