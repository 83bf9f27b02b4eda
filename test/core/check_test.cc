// Proves that every kind of damage is found and told with its consequence, and
// that looking for it changes nothing.

#include "core/check.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/geometry.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/media_editor.h"
#include "test/fakes/fake_cache_device.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Severity = CheckFinding::Severity;

constexpr uint64_t kBlock = kBlockSize;

// A cache with a clean block at 0, a dirty one behind it, stopped.
class CheckTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(machine_.Start(), IsOk());
    geometry_ = std::make_unique<Geometry>(machine_.core().table().geometry());
    ASSERT_THAT(machine_.Write(0, std::string(kBlock, 'c')), IsOk());
    ASSERT_THAT(machine_.Drain(), IsOk());
    first_set_ = machine_.PlaceOf(machine_.core().log().head());
    const Pending write = machine_.StartWrite(kBlock, std::string(kBlock, 'd'));
    ASSERT_TRUE(write->done);
    clean_place_ = machine_.PlaceOf(0);
    dirty_place_ = machine_.PlaceOf(kBlock);
    ASSERT_THAT(machine_.Stop(), IsOk());
  }

  CheckReport Check(const CheckOptions& options = {}) {
    const uint64_t changes = machine_.cache_device().changes();
    const auto report = CheckCache(machine_.cache_device(), options);
    EXPECT_THAT(report, IsOk());
    EXPECT_EQ(machine_.cache_device().changes(), changes);
    return *report;
  }
  // The only finding; it names all of `parts`.
  void ExpectFinding(Severity severity, const std::string& image,
                     const std::vector<std::string>& parts) {
    const CheckReport report = Check();
    ASSERT_EQ(report.findings.size(), 1u);
    EXPECT_EQ(report.findings[0].severity, severity);
    EXPECT_EQ(report.findings[0].image, image);
    for (const std::string& part : parts) {
      EXPECT_THAT(report.findings[0].message, HasSubstr(part));
    }
    EXPECT_EQ(report.damaged(), severity == Severity::kDamage);
  }
  void Corrupt(MediaOffset offset) { machine_.Corrupt(offset.value() + 20); }

  CoreMachine machine_;
  std::unique_ptr<Geometry> geometry_;
  uint64_t first_set_ = 0;  // of the dirty block
  uint64_t clean_place_ = 0;
  uint64_t dirty_place_ = 0;
};

TEST_F(CheckTest, SoundCacheHasNoFindings) {
  const CheckReport report = Check();

  EXPECT_THAT(report.findings, IsEmpty());
  EXPECT_FALSE(report.damaged());
  EXPECT_TRUE(report.clean_stop);
  EXPECT_EQ(report.images, 1u);
  EXPECT_EQ(report.keys, 2u);
  EXPECT_EQ(report.payload_bytes, 2 * kBlock);
  EXPECT_EQ(report.dirty_bytes, kBlock);
}

TEST_F(CheckTest, PayloadIsReadOnlyIfWanted) {
  machine_.Corrupt(dirty_place_);

  const CheckReport report = Check({.verify_payload = false});

  EXPECT_THAT(report.findings, IsEmpty());
  EXPECT_EQ(report.payload_bytes, 0u);
}

TEST_F(CheckTest, WhatIsNoCacheIsRefused) {
  FakeCacheDevice blank({.size = 20 * kMiB});

  EXPECT_THAT(CheckCache(blank, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(CheckTest, BadDirtyPayloadIsLost) {
  machine_.Corrupt(dirty_place_ + 17);

  ExpectFinding(Severity::kDamage, "vm1",
                {"4096 bytes of dirty data at 4096 lost",
                 absl::StrCat(dirty_place_), "wrong checksum"});
}

TEST_F(CheckTest, BadCleanPayloadWillBeReadAgain) {
  machine_.Corrupt(clean_place_ + 17);

  const CheckReport report = Check();
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_THAT(report.findings[0].message,
              AllOf(HasSubstr("clean data at 0"),
                    HasSubstr("read from the backing device")));
}

TEST_F(CheckTest, UnreadablePayloadIsFoundToo) {
  machine_.cache_device().FailRange(FakeCacheDevice::kRead, dirty_place_,
                                    kBlock);

  ExpectFinding(Severity::kDamage, "vm1", {"dirty data at 4096 lost"});
}

TEST_F(CheckTest, DamagedLogKeepsTheImageFromOpening) {
  machine_.Corrupt(first_set_ + 8);

  ExpectFinding(Severity::kDamage, "vm1",
                {"key log damaged in segment", "cannot be opened"});
}

TEST_F(CheckTest, TornEndIsNoDamage) {
  ASSERT_THAT(machine_.Start(), IsOk());
  const Pending write = machine_.StartWrite(0, std::string(kBlock, 'n'));
  const uint64_t place = machine_.PlaceOf(0);
  machine_.Kill();
  machine_.Corrupt(place);

  ExpectFinding(Severity::kNote, "vm1", {"1 key set", "dropped"});
  EXPECT_FALSE(Check().clean_stop);
}

TEST_F(CheckTest, OneBadCopyOfARecordIsNamedBothAreDamage) {
  struct Case {
    MediaOffset slots[2];
    std::string image;
    std::string name;
  };
  const Geometry& g = *geometry_;
  const ImageId id(0);
  const std::vector<Case> cases = {
      {{g.cache_info(0), g.cache_info(1)}, "", "cache info"},
      {{g.image_record(id, 0), g.image_record(id, 1)}, "vm1", "image record"},
      {{g.log_tails(id, 0), g.log_tails(id, 1)}, "vm1", "log tails"}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    // The older copy: the newer one going would change more than that.
    bool found = false;
    for (int slot : {0, 1}) {
      Corrupt(c.slots[slot]);
      for (const CheckFinding& finding : Check().findings) {
        found |= finding.image == c.image &&
                 finding.severity == Severity::kNote &&
                 finding.message.find(c.name) != std::string::npos;
      }
      Corrupt(c.slots[slot]);
    }
    EXPECT_TRUE(found);

    for (int slot : {0, 1}) Corrupt(c.slots[slot]);
    EXPECT_TRUE(Check().damaged());
    for (int slot : {0, 1}) Corrupt(c.slots[slot]);
  }
}

TEST_F(CheckTest, BothCopiesOfASegmentRecordAreDamage) {
  for (int slot : {0, 1}) {
    Corrupt(geometry_->segment_record(SegmentId(3), slot));
  }

  ExpectFinding(Severity::kDamage, "", {"segment 3"});
}

TEST_F(CheckTest, RecordsThatContradictEachOtherAreDamage) {
  const uint32_t segment = static_cast<uint32_t>(
      (dirty_place_ - geometry_->metadata_bytes()) / geometry_->segment_size());
  EditSegment(machine_.cache_device(), *geometry_, SegmentId(segment),
              [](SegmentRecord& record) {
                record.use = SegmentUse::kLog;
                record.first_sequence = SequenceNumber(1);
              });

  ExpectFinding(Severity::kDamage, "vm1",
                {absl::StrCat("segment ", segment), "cannot be opened"});
}

TEST_F(CheckTest, TailsOfAnotherImageAreDamage) {
  EditTails(machine_.cache_device(), *geometry_, ImageId(0),
            [](LogTails& tails) { tails.image = ImageTag(1); });

  ExpectFinding(Severity::kDamage, "vm1", {"another image"});
}

// Found by test/fuzz/device_fuzz_test: a start took it for nobody's and freed
// it.
TEST_F(CheckTest, SegmentOfAnotherOwnerIsDamageAndStays) {
  const SegmentId segment(static_cast<uint32_t>(
      (first_set_ - geometry_->metadata_bytes()) / geometry_->segment_size()));
  EditSegment(machine_.cache_device(), *geometry_, segment,
              [](SegmentRecord& record) { record.owner = ImageId(9); });

  ExpectFinding(Severity::kDamage, "",
                {absl::StrCat("segment ", segment.value()),
                 "got image slot 9, want 0"});
  const uint64_t changes = machine_.cache_device().changes();
  EXPECT_THAT(machine_.Start(), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(machine_.cache_device().changes(), changes);
}

TEST_F(CheckTest, OneImageTwiceIsDamage) {
  for (int slot : {0, 1}) {
    std::vector<std::byte> record(ImageRecord::kSize);
    ASSERT_THAT(machine_.cache_device().Read(
                    geometry_->image_record(ImageId(0), slot), record),
                IsOk());
    ASSERT_THAT(machine_.cache_device().Write(
                    geometry_->image_record(ImageId(1), slot), record),
                IsOk());
  }

  EXPECT_TRUE(Check().damaged());
  EXPECT_THAT(machine_.Start(), StatusIs(absl::StatusCode::kDataLoss,
                                         HasSubstr("slots 0 and 1")));
}

TEST_F(CheckTest, ImageThatWasNeverCompleteIsNoDamage) {
  // A power cut tore the first store of a second image's record.
  ASSERT_THAT(
      machine_.cache_device().Write(geometry_->image_record(ImageId(1), 0),
                                    std::vector<std::byte>(512, std::byte{7})),
      IsOk());

  EXPECT_FALSE(Check().damaged());
  EXPECT_EQ(Check().images, 1u);
}

TEST_F(CheckTest, ProgressIsTold) {
  std::vector<uint64_t> done;
  Check({.progress = [&](uint64_t bytes, uint64_t total) {
    done.push_back(bytes);
    EXPECT_GE(total, bytes);
  }});

  EXPECT_THAT(done, ElementsAre(kBlock, 2 * kBlock));
}

}  // namespace
}  // namespace pcachefs
