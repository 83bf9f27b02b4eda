// Flips bits of a used cache, one at a time: of every byte of every record and
// of the log, and of some of each block of payload. Whatever happens, wrong data
// is neither served nor written back. Each outcome is one of
//   unused     nothing reads it
//   repaired   told by check, and everything is still there
//   reported   told by check; the image is refused, or ranges answer an error
// and never is a whole cache refused, or an image but for damage in its log.
// The counts are printed. BIT_ROT_EVERY=1 in the environment sweeps every byte;
// by default it is every seventh.

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/cache.h"
#include "core/check.h"
#include "core/key_log.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "meta/geometry.h"
#include "meta/records.h"
#include "meta/types.h"
#include "meta/units.h"
#include "test/core/core_machine.h"
#include "test/core/scripted_disk.h"
#include "test/fakes/fake_cache_device.h"
#include "test/fakes/fake_clock.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr uint64_t kBlock = kBlockSize;
constexpr uint64_t kImageSize = 256 * kKiB;

// A cache that has been used: what it shows, and what is on the disk.
class UsedCache {
 public:
  explicit UsedCache(bool clean_stop) : machine_(MakeOptions()) {
    machine_.disk().Fill(0, std::string(kImageSize, 'd'));
    EXPECT_THAT(machine_.Start(), IsOk());
    shown_.assign(kImageSize, 'd');
    // Clean, in part overwritten; a fill; then dirty of each kind.
    for (uint64_t i = 0; i < 6; ++i) Write(i, 'a' + i);
    EXPECT_THAT(machine_.Read(20 * kBlock, 2 * kBlock), IsOk());
    EXPECT_THAT(machine_.Drain(), IsOk());
    Write(1, 'A');
    Write(8, 'B', 3);
    EXPECT_THAT(machine_.Zero(9 * kBlock, kBlock), IsOk());
    EXPECT_THAT(machine_.Discard(3 * kBlock, kBlock), IsOk());
    shown_.replace(9 * kBlock, kBlock, kBlock, '\0');
    shown_.replace(3 * kBlock, kBlock, kBlock, '\0');
    disk_ = machine_.disk().Content(0, kImageSize);
    geometry_ = std::make_unique<Geometry>(machine_.core().table().geometry());
    log_begin_ = machine_.PlaceOf(machine_.core().tails().key_tail());
    log_end_ = machine_.PlaceOf(machine_.core().log().head());
    for (uint64_t at = 0; at < kImageSize; at += kBlock) {
      if (const uint64_t place = machine_.PlaceOf(at)) blocks_.push_back(place);
    }
    if (clean_stop) {
      EXPECT_THAT(machine_.Stop(), IsOk());
    } else {
      // Durable, and that it is, is told on the media.
      disk_ = "";
      EXPECT_THAT(machine_.Flush(), IsOk());
      for (int i = 0; i < 40; ++i) {
        machine_.RunIdle();
        machine_.clock().Advance(absl::Milliseconds(100));
      }
      disk_ = machine_.disk().Content(0, kImageSize);
      machine_.Kill();
    }
  }

  const FakeCacheDevice& device() { return machine_.cache_device(); }
  const Geometry& geometry() const { return *geometry_; }
  const std::string& shown() const { return shown_; }
  const std::string& disk() const { return disk_; }
  uint64_t log_begin() const { return log_begin_; }
  uint64_t log_end() const { return log_end_; }
  const std::vector<uint64_t>& blocks() const { return blocks_; }

 private:
  static CoreMachine::Options MakeOptions() {
    CoreMachine::Options options;
    options.image_size = kImageSize;
    return options;
  }
  void Write(uint64_t block, char letter, uint64_t count = 1) {
    const std::string bytes(count * kBlock, letter);
    // Without background work: what is dirty stays so.
    const Pending write = machine_.StartWrite(block * kBlock, bytes);
    EXPECT_TRUE(write->done);
    shown_.replace(block * kBlock, bytes.size(), bytes);
  }

  CoreMachine machine_;
  std::unique_ptr<Geometry> geometry_;
  std::string shown_;
  std::string disk_;
  uint64_t log_begin_ = 0;
  uint64_t log_end_ = 0;
  std::vector<uint64_t> blocks_;  // of payload in use
};

enum class Outcome { kUnused, kRepaired, kReported };

std::ostream& operator<<(std::ostream& out, Outcome outcome) {
  const char* const names[] = {"unused", "repaired", "reported"};
  return out << names[static_cast<int>(outcome)];
}

class BitRotTest : public testing::TestWithParam<bool> {
 protected:
  void Sweep(const std::string& what, uint64_t begin, uint64_t end,
             uint64_t step = Every()) {
    for (uint64_t at = begin; at < end; at += step) {
      SCOPED_TRACE(absl::StrCat(what, ": byte ", at - begin, ", at ", at));
      const Outcome outcome = Try(at, static_cast<int>(at % 8));
      ++outcomes_[what][outcome];
      if (HasFailure()) return;
    }
  }

  static uint64_t Every() {
    const char* const every = getenv("BIT_ROT_EVERY");
    uint64_t step = 7;
    if (every != nullptr) {
      EXPECT_TRUE(absl::SimpleAtoi(every, &step)) << every;
    }
    return step;
  }

  Outcome Try(uint64_t at, int bit) {
    const std::unique_ptr<FakeCacheDevice> device = used_.device().Fork();
    device->FlipBit(at, bit);
    const auto report = CheckCache(*device, {});
    const bool told = !report.ok() || !report->findings.empty();
    const bool damaged = !report.ok() || report->damaged();

    FakeClock clock;
    ScriptedDisk disk(kImageSize);
    disk.Fill(0, used_.disk());
    CacheOptions options;
    options.start_threads = false;
    auto cache = Cache::Open(*device, options, clock);
    EXPECT_THAT(cache, IsOk());
    if (!cache.ok()) return Outcome::kReported;
    const auto image = (*cache)->Attach("vm1", disk.Open(), {});
    if (!image.ok()) {
      EXPECT_TRUE(damaged) << image.status();
      return Outcome::kReported;
    }
    const std::vector<bool> lost = ReadAll(**image, **cache, *device);
    bool drained = false;
    (*image)->Drain([&](absl::Status) { drained = true; });
    for (int i = 0; i < 10000 && !drained; ++i) {
      if (!(*cache)->Step() && !device->Step()) {
        clock.Advance(absl::Milliseconds(10));
      }
    }
    EXPECT_TRUE(drained);
    bool any_lost = false;
    for (uint64_t i = 0; i < lost.size(); ++i) {
      any_lost |= lost[i];
      if (lost[i]) continue;
      EXPECT_EQ(disk.Content(i * kBlock, kBlock),
                used_.shown().substr(i * kBlock, kBlock))
          << "written back, block " << i;
    }
    EXPECT_THAT((*cache)->Close(), IsOk());
    if (any_lost) {
      EXPECT_TRUE(damaged);
      return Outcome::kReported;
    }
    return told ? Outcome::kRepaired : Outcome::kUnused;
  }

  // Blocks that answer an error; all others are what they should be.
  std::vector<bool> ReadAll(CachedImage& image, Cache& cache,
                            FakeCacheDevice& device) {
    std::vector<bool> lost;
    std::string block(kBlock, '?');
    for (uint64_t at = 0; at < kImageSize; at += kBlock) {
      bool done = false;
      absl::Status status;
      image.Read({ImageOffset(at), kBlock},
                 std::as_writable_bytes(std::span(block)),
                 [&](absl::Status read) {
                   status = std::move(read);
                   done = true;
                 });
      while (!done && (device.Step() || cache.Step())) {
      }
      EXPECT_TRUE(done);
      lost.push_back(!status.ok());
      if (status.ok()) {
        EXPECT_EQ(block, used_.shown().substr(at, kBlock))
            << "served, at " << at;
      } else {
        EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss));
      }
    }
    return lost;
  }

  void TearDown() override {
    for (const auto& [what, counts] : outcomes_) {
      for (const auto& [outcome, count] : counts) {
        std::cout << what << ": " << outcome << " " << count << "\n";
      }
    }
  }

  UsedCache used_{/*clean_stop=*/GetParam()};
  std::map<std::string, std::map<Outcome, int>> outcomes_;
};

INSTANTIATE_TEST_SUITE_P(CleanStop, BitRotTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "Stopped" : "Killed";
                         });

TEST_P(BitRotTest, Superblock) {
  for (const int slot : {0, 1}) {
    const uint64_t begin = SuperblockOffset(slot).value();
    Sweep("superblock", begin, begin + Superblock::kSize);
    Sweep("behind the superblock", begin + Superblock::kSize,
          begin + kSuperblockSlotSize, 97);
  }
  EXPECT_EQ(outcomes_["superblock"][Outcome::kReported], 0);
  EXPECT_EQ(outcomes_["superblock"][Outcome::kUnused], 0);
}

TEST_P(BitRotTest, CacheInfo) {
  for (const int slot : {0, 1}) {
    const uint64_t begin = used_.geometry().cache_info(slot).value();
    Sweep("cache info", begin, begin + CacheInfo::kSize);
  }
}

TEST_P(BitRotTest, ImageRecord) {
  for (const int slot : {0, 1}) {
    const uint64_t begin =
        used_.geometry().image_record(ImageId(0), slot).value();
    Sweep("image record", begin, begin + ImageRecord::kSize);
    const uint64_t next =
        used_.geometry().image_record(ImageId(1), slot).value();
    Sweep("image slot not in use", next, next + ImageRecord::kSize, 97);
  }
  EXPECT_EQ(outcomes_["image record"][Outcome::kReported], 0);
  EXPECT_EQ(outcomes_["image slot not in use"][Outcome::kReported], 0);
}

TEST_P(BitRotTest, LogTails) {
  for (const int slot : {0, 1}) {
    const uint64_t begin = used_.geometry().log_tails(ImageId(0), slot).value();
    Sweep("log tails", begin, begin + LogTails::kSize);
  }
}

TEST_P(BitRotTest, SegmentTable) {
  for (const int slot : {0, 1}) {
    const uint64_t begin = used_.geometry().segment_table(slot).value();
    Sweep("segment table", begin,
          begin + used_.geometry().segment_table_bytes());
  }
  EXPECT_EQ(outcomes_["segment table"][Outcome::kReported], 0);
}

TEST_P(BitRotTest, KeyLog) {
  Sweep("key log", used_.log_begin(), used_.log_end());
  Sweep("behind the key log", used_.log_end(), used_.log_end() + 200);
}

TEST_P(BitRotTest, Payload) {
  for (const uint64_t block : used_.blocks()) {
    Sweep("payload", block, block + kBlock, 509);
  }
  // While it is dirty; the killed daemon had written it all back.
  EXPECT_EQ(outcomes_["payload"][Outcome::kReported] > 0, GetParam());
  EXPECT_GT(outcomes_["payload"][Outcome::kRepaired], 0);  // clean
}

}  // namespace
}  // namespace pcachefs
