// Proves that the log is one unbroken sequence of sets over many segments, that
// a failed append leaves no gap, and that a reader finds what was appended.

#include "core/key_log.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/barrier.h"
#include "core/image_space.h"
#include "core/log_reader.h"
#include "core/segment_table.h"
#include "core/slot_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/geometry.h"
#include "meta/key_set.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/fakes/fake_cache_device.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr ImageTag kTag(77);
constexpr uint64_t kImageSize = kGiB;

class KeyLogTest : public testing::Test {
 protected:
  KeyLogTest()
      : geometry_(*Geometry::ForDevice(20 * kMiB, kMiB)),
        device_({.size = 20 * kMiB}),
        barrier_(device_),
        table_(device_, geometry_, barrier_),
        space_(table_, ImageId(0), kTag, kMinShare) {
    for (uint32_t i = 0; i < geometry_.segment_count(); ++i) {
      SlotCursor cursor;
      const SegmentId id(i);
      EXPECT_THAT(StoreSlot(device_, barrier_,
                            {geometry_.segment_record(id, 0),
                             geometry_.segment_record(id, 1)},
                            cursor, SegmentRecord{.generation = Generation(1)}),
                  IsOk());
    }
    EXPECT_THAT(table_.Load(), IsOk());
    start_ = {.segment = *space_.TakeLog(SequenceNumber(1)),
              .generation = Generation(1),
              .sequence = SequenceNumber(1)};
    log_ =
        std::make_unique<KeyLog>(device_, space_, barrier_, kTag,
                                 KeyLog::Start{.head = start_,
                                               .incarnation = Incarnation(4),
                                               .durable = SequenceNumber(0)});
  }

  // A set of one key, which tells its own number.
  absl::StatusOr<SequenceNumber> Append() {
    const PendingKey pending = {
        .key = {
            .kind = KeyKind::kZero,
            .range = {ImageOffset(log_->head().sequence.value() * 512), 512}}};
    return log_->Append({&pending, 1});
  }
  // Appends until the log has gone on in another segment.
  void AppendUntilRolled() {
    const SegmentId segment = log_->head().segment;
    while (log_->head().segment == segment) ASSERT_THAT(Append(), IsOk());
  }
  LogReader Reader() {
    return LogReader(
        device_, table_,
        {.image = kTag, .image_size = kImageSize, .position = start_});
  }
  // The next set's number; checks that it is the expected one.
  absl::StatusOr<KeySetHeader> ReadNext(LogReader& reader) {
    const SequenceNumber expected = reader.position().sequence;
    auto set = reader.Next();
    if (!set.ok()) return set.status();
    EXPECT_EQ(set->header().sequence, expected);
    return set->header();
  }

  const Geometry geometry_;
  FakeCacheDevice device_;
  Barrier barrier_;
  SegmentTable table_;
  ImageSpace space_;
  LogPosition start_;
  std::unique_ptr<KeyLog> log_;
};

TEST_F(KeyLogTest, ReaderFindsEverySetOverLinks) {
  AppendUntilRolled();
  AppendUntilRolled();
  ASSERT_THAT(Append(), IsOk());
  LogReader reader = Reader();

  int links = 0;
  while (reader.position().sequence <= log_->last()) {
    const auto header = ReadNext(reader);
    ASSERT_THAT(header, IsOk());
    links += header->is_link;
    EXPECT_EQ(header->incarnation, Incarnation(4));
  }

  EXPECT_EQ(links, 2);
  EXPECT_EQ(reader.position(), log_->head());
  EXPECT_THAT(reader.Next(), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(KeyLogTest, ReaderFollowsWhatIsBeingAppended) {
  LogReader reader = Reader();
  for (int i = 0; i < 300; ++i) {
    EXPECT_THAT(reader.Next(), StatusIs(absl::StatusCode::kNotFound));
    const auto sequence = Append();
    ASSERT_THAT(sequence, IsOk());
    const auto header = ReadNext(reader);
    ASSERT_THAT(header, IsOk());
    EXPECT_EQ(header->sequence, *sequence);
  }
}

TEST_F(KeyLogTest, SetsOfEverySizeAreRead) {
  std::vector<uint32_t> checksums(256, 7);
  LogReader reader = Reader();
  for (const size_t keys : {1u, 60u, 2u, 59u, 1u}) {
    std::vector<PendingKey> pending(
        keys, {.key = {.kind = KeyKind::kWrite,
                       .range = {ImageOffset(0), kMiB},
                       .position = {SegmentId(3), SegmentOffset(0)},
                       .generation = Generation(1)},
               .checksums = checksums});
    ASSERT_THAT(log_->Append(pending), IsOk());
    const auto header = ReadNext(reader);
    ASSERT_THAT(header, IsOk());
    EXPECT_EQ(header->key_count, keys);
  }
}

TEST_F(KeyLogTest, FirstSetBehindAFlushBeginsAnEpoch) {
  ASSERT_THAT(Append(), IsOk());
  EXPECT_EQ(log_->EndEpoch(), SequenceNumber(1));
  EXPECT_EQ(log_->EndEpoch(), SequenceNumber(1));
  ASSERT_THAT(Append(), IsOk());
  ASSERT_THAT(Append(), IsOk());
  LogReader reader = Reader();

  for (const bool begins : {false, true, false}) {
    EXPECT_EQ(ReadNext(reader)->begins_epoch, begins);
  }
}

TEST_F(KeyLogTest, EpochBeginsBehindALinkToo) {
  AppendUntilRolled();
  AppendUntilRolled();
  LogReader reader = Reader();
  const SegmentId first = reader.position().segment;
  while (reader.position().segment == first) {
    ASSERT_THAT(ReadNext(reader), IsOk());
  }
  // Fill the third segment up to where the next set makes it roll.
  const size_t set_size = 56;
  while (log_->head().offset.value() + set_size + kLinkSetSize <=
         geometry_.segment_size()) {
    ASSERT_THAT(Append(), IsOk());
  }
  const SequenceNumber link = log_->head().sequence;
  log_->EndEpoch();
  ASSERT_THAT(Append(), IsOk());

  KeySetHeader header;
  while (reader.position().sequence <= link) {
    const auto next = ReadNext(reader);
    ASSERT_THAT(next, IsOk());
    header = *next;
  }
  EXPECT_TRUE(header.is_link);
  EXPECT_FALSE(header.begins_epoch);
  EXPECT_TRUE(ReadNext(reader)->begins_epoch);
}

TEST_F(KeyLogTest, FullShareChangesNothing) {
  while (space_.TakeLog({}).ok()) {
  }
  absl::Status status;
  while (status.ok()) status = Append().status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted));
  const LogPosition head = log_->head();

  EXPECT_THAT(Append(), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(log_->head(), head);
  EXPECT_FALSE(barrier_.failed());

  space_.Returned(1);
  EXPECT_THAT(Append(), IsOkAndHolds(head.sequence + 1));  // behind the link
  LogReader reader = Reader();
  while (reader.position().sequence <= log_->last()) {
    ASSERT_THAT(ReadNext(reader), IsOk());
  }
}

TEST_F(KeyLogTest, FailedAppendEndsTheLog) {
  ASSERT_THAT(Append(), IsOk());
  device_.FailNth(FakeCacheDevice::kWrite, 0);
  const auto failed = StatusIs(absl::StatusCode::kUnavailable);

  EXPECT_THAT(Append(), failed);
  device_.ClearFaults();

  EXPECT_THAT(Append(), failed) << "behind a set that may be unreadable";
  EXPECT_THAT(barrier_.Persist(), failed);  // C9
}

TEST_F(KeyLogTest, SetsTellWhatWasDurable) {
  for (int i = 0; i < 10; ++i) ASSERT_THAT(Append(), IsOk());
  log_->MarkDurable(SequenceNumber(8));
  log_->MarkDurable(SequenceNumber(5));  // never back
  ASSERT_THAT(Append(), IsOk());
  LogReader reader = Reader();
  KeySetHeader header;
  while (reader.position().sequence <= log_->last()) {
    header = *ReadNext(reader);
  }
  EXPECT_EQ(header.durable, SequenceNumber(8));

  const CachePosition from = {start_.segment, SegmentOffset(56)};
  const auto proof = [&](CachePosition place, uint64_t expected) {
    return LogReader::FindProofOfDurability(device_, geometry_, kTag, place,
                                            SequenceNumber(expected));
  };
  EXPECT_THAT(proof(from, 2), IsOkAndHolds(SequenceNumber(8)));
  // A set of an old life does not count, nor anybody else's.
  EXPECT_THAT(proof(from, 12), IsOkAndHolds(SequenceNumber(0)));
  EXPECT_THAT(LogReader::FindProofOfDurability(device_, geometry_, ImageTag(1),
                                               from, SequenceNumber(2)),
              IsOkAndHolds(SequenceNumber(0)));
}

TEST_F(KeyLogTest, LinkIntoAnotherLifeIsRefused) {
  AppendUntilRolled();
  ASSERT_THAT(Append(), IsOk());
  ASSERT_THAT(table_.StoreFreed(log_->head().segment), IsOk());
  LogReader reader = Reader();

  absl::Status status;
  while (status.ok()) status = ReadNext(reader).status();

  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(reader.position().segment, start_.segment);
}

TEST_F(KeyLogTest, OlderIncarnationEndsTheWalk) {
  for (int i = 0; i < 3; ++i) ASSERT_THAT(Append(), IsOk());
  // Another start: it dropped set 2 and 3, and appends a set of the same size.
  KeyLog second(device_, space_, barrier_, kTag,
                {.head = {.segment = start_.segment,
                          .offset = SegmentOffset(56),
                          .generation = Generation(1),
                          .sequence = SequenceNumber(2)},
                 .incarnation = Incarnation(5)});
  const PendingKey pending = {
      .key = {.kind = KeyKind::kZero, .range = {ImageOffset(0), 512}}};
  ASSERT_THAT(second.Append({&pending, 1}), IsOkAndHolds(SequenceNumber(2)));
  LogReader reader = Reader();

  EXPECT_THAT(ReadNext(reader), IsOk());
  EXPECT_THAT(ReadNext(reader), IsOk());

  EXPECT_THAT(ReadNext(reader), StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace pcachefs
