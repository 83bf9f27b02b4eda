// Proves the contract of backing devices on real files, for both executors and
// each way through the page cache or around it: every test runs on all of them.

#include "iobackend/backing_device.h"

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "iobackend/backing_file.h"
#include "iobackend/sync_backing_device.h"
#include "iobackend/uring_backing_device.h"
#include "meta/units.h"
#include "test/iobackend/test_files.h"
#include "test/testing/random_seed.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;
using Operation = BackingRequest::Operation;

constexpr uint64_t kSize = 4 * kMiB + 512;

struct Way {
  const char* name;
  bool uring;
  bool direct;
  uint32_t min_granule;
  bool tmpfs;
};

class BackingDeviceTest : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    file_ = MakeSparseFile(path_, kSize);
    device_ = Open();
    ASSERT_NE(device_, nullptr);
  }

  std::unique_ptr<BackingDevice> Open(bool read_only = false) {
    auto file =
        BackingFile::Open(path_, {.read_only = read_only,
                                  .direct = GetParam().direct,
                                  .min_granule = GetParam().min_granule});
    if (!file.ok()) return nullptr;
    if (!GetParam().uring) {
      return std::make_unique<SyncBackingDevice>(*std::move(file));
    }
    auto device = UringBackingDevice::Create(*std::move(file),
                                             {.rings = 2, .queue_depth = 8});
    return device.ok() ? *std::move(device) : nullptr;
  }

  absl::Status Run(Operation operation, uint64_t offset, uint64_t length,
                   BackingRequest::Buffers buffers = {}) {
    BackingRequest request;
    request.operation = operation;
    request.offset = offset;
    request.length = length;
    request.buffers = std::move(buffers);
    return SubmitAndWait(*device_, std::move(request));
  }

  absl::Status Write(uint64_t offset, std::span<std::byte> bytes) {
    return Run(Operation::kWrite, offset, bytes.size(), {bytes});
  }

  absl::Status Read(uint64_t offset, std::span<std::byte> bytes) {
    return Run(Operation::kRead, offset, bytes.size(), {bytes});
  }

  // What the file holds, seen from outside.
  std::vector<std::byte> Contents(uint64_t offset, uint64_t length) {
    std::vector<std::byte> bytes(length);
    EXPECT_THAT(ReadFully(path_, file_.get(), offset, bytes), IsOk());
    return bytes;
  }

  TestDirectory directory_{GetParam().tmpfs ? kTmpfs : ::testing::TempDir()};
  const std::string path_ = directory_.File("backing");
  FileDescriptor file_;
  std::unique_ptr<BackingDevice> device_;
};

INSTANTIATE_TEST_SUITE_P(
    Way, BackingDeviceTest,
    ::testing::Values(Way{"SyncDirect", false, true, 0, false},
                      Way{"SyncPages", false, true, 4096, false},
                      Way{"SyncBuffered", false, false, 0, false},
                      Way{"UringDirect", true, true, 0, false},
                      Way{"UringPages", true, true, 4096, false},
                      Way{"UringBuffered", true, false, 0, false},
                      Way{"UringTmpfs", true, true, 0, true}),
    [](const auto& info) { return info.param.name; });

TEST_P(BackingDeviceTest, TellsWhatItIs) {
  EXPECT_EQ(device_->size(), kSize);
  EXPECT_EQ(device_->spec(), path_);
  EXPECT_FALSE(device_->is_read_only());
  EXPECT_GE(device_->block_size(), kSectorSize);
  EXPECT_LE(device_->block_size(), kBlockSize);
  EXPECT_EQ(device_->identity().kind, BackingKind::kFile);
  EXPECT_EQ(device_->identity().size, kSize);
  EXPECT_THAT(device_->identity().text,
              ::testing::MatchesRegex("ino=[0-9]+,fsid=[0-9a-f]+"));
}

TEST_P(BackingDeviceTest, AnySectorsAndAnyMemoryWillDo) {
  for (const uint64_t offset : {0, 512, 4096, 4096 + 1536}) {
    for (const size_t length : {512, 1024, 4096, 4608, 8192, 5 << 18}) {
      for (const size_t skew : {0, 1, 512}) {
        SCOPED_TRACE(testing::Message()
                     << offset << ' ' << length << ' ' << skew);
        TestBuffer in(length, skew), out(length, skew);
        FillPattern(in.bytes(), offset + length + skew);
        ASSERT_THAT(Write(offset, in.bytes()), IsOk());
        ASSERT_THAT(Read(offset, out.bytes()), IsOk());
        ASSERT_TRUE(SameBytes(in.bytes(), out.bytes()));
        ASSERT_TRUE(SameBytes(in.bytes(), Contents(offset, length)));
      }
    }
  }
}

TEST_P(BackingDeviceTest, ManyBuffersAreOneRange) {
  // More than a system call takes, and not aligned among themselves.
  constexpr size_t kPieces = 3000;
  TestBuffer bytes(kPieces * 512);
  FillPattern(bytes.bytes(), 1);
  BackingRequest::Buffers buffers;
  for (size_t i = 0; i < kPieces; ++i) {
    // Two to a piece of 512.
    buffers.push_back(bytes.bytes().subspan(i * 512, 100));
    buffers.push_back(bytes.bytes().subspan(i * 512 + 100, 412));
  }

  ASSERT_THAT(Run(Operation::kWrite, 512, kPieces * 512, buffers), IsOk());
  EXPECT_EQ(Contents(512, kPieces * 512), Copy(bytes.bytes()));

  const auto expected = Copy(bytes.bytes());
  FillPattern(bytes.bytes(), 2);
  ASSERT_THAT(Run(Operation::kRead, 512, kPieces * 512, buffers), IsOk());
  EXPECT_EQ(Copy(bytes.bytes()), expected);
}

TEST_P(BackingDeviceTest, ZeroAndDiscardReadAsZeroes) {
  for (const Operation operation : {Operation::kZero, Operation::kDiscard}) {
    for (const uint64_t offset : {4096, 4096 + 512}) {
      for (const uint64_t length : {512, 1 << 20, (3 << 20) + 512}) {
        auto expected = Pattern(kSize, length);
        ASSERT_THAT(Write(0, expected), IsOk());

        ASSERT_THAT(Run(operation, offset, length), IsOk());

        std::fill_n(expected.begin() + offset, length, std::byte{0});
        std::vector<std::byte> out(kSize);
        ASSERT_THAT(Read(0, out), IsOk());
        ASSERT_TRUE(SameBytes(out, expected));
        ASSERT_TRUE(SameBytes(Contents(0, kSize), expected));
      }
    }
  }
}

TEST_P(BackingDeviceTest, DiscardGivesSpaceBack) {
  auto bytes = Pattern(kSize, 1);
  ASSERT_THAT(Write(0, bytes), IsOk());
  ASSERT_THAT(Run(Operation::kFlush, 0, 0), IsOk());
  const uint64_t before = device_->allocated_bytes();

  ASSERT_THAT(Run(Operation::kDiscard, kMiB, 2 * kMiB), IsOk());
  EXPECT_EQ(device_->allocated_bytes(), before) << "asked the system";
  ASSERT_THAT(Run(Operation::kFlush, 0, 0), IsOk());

  EXPECT_GE(before, kSize);
  EXPECT_LE(device_->allocated_bytes(), before - 2 * kMiB);
  EXPECT_EQ(device_->size(), kSize);
}

TEST_P(BackingDeviceTest, MistakesOfTheCallerAreReported) {
  std::vector<std::byte> bytes(1024);
  constexpr auto kOutOfRange = absl::StatusCode::kOutOfRange;
  constexpr auto kInvalidArgument = absl::StatusCode::kInvalidArgument;

  EXPECT_THAT(Read(kSize - 512, bytes), StatusIs(kOutOfRange));
  EXPECT_THAT(Write(kSize, bytes), StatusIs(kOutOfRange));
  EXPECT_THAT(Run(Operation::kZero, UINT64_MAX - 511, 1024),
              StatusIs(kOutOfRange));
  EXPECT_THAT(Run(Operation::kDiscard, 0, kSize + 512), StatusIs(kOutOfRange));
  EXPECT_THAT(Read(100, bytes), StatusIs(kInvalidArgument));
  EXPECT_THAT(Run(Operation::kZero, 0, 100), StatusIs(kInvalidArgument));
  EXPECT_THAT(Run(Operation::kRead, 0, 512, {bytes}),
              StatusIs(kInvalidArgument));
  EXPECT_THAT(Run(Operation::kWrite, 0, 0), IsOk());
  EXPECT_EQ(device_->size(), kSize);
  EXPECT_EQ(std::filesystem::file_size(path_), kSize);
}

TEST_P(BackingDeviceTest, ReadAtTheEndOfAFileThatShrankFails) {
  ASSERT_EQ(ftruncate(file_.get(), 4096 + 1000), 0);
  std::vector<std::byte> out(8192);

  EXPECT_THAT(Read(0, out), StatusIs(absl::StatusCode::kUnavailable,
                                     HasSubstr("has become smaller")));
  EXPECT_THAT(Read(8192, out), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Read(0, std::span(out).first(4096)), IsOk());
  EXPECT_THAT(device_->Refresh(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(device_->size(), kSize);
}

TEST_P(BackingDeviceTest, GrowthIsSeenByRefresh) {
  std::vector<std::byte> bytes = Pattern(512, 1);
  ASSERT_EQ(ftruncate(file_.get(), kSize + 100), 0);
  EXPECT_THAT(device_->Refresh(), StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_EQ(ftruncate(file_.get(), kSize + 512), 0);
  EXPECT_FALSE(Write(kSize, bytes).ok());

  ASSERT_THAT(device_->Refresh(), IsOk());

  EXPECT_EQ(device_->size(), kSize + 512);
  EXPECT_THAT(Write(kSize, bytes), IsOk());
}

TEST_P(BackingDeviceTest, ExtentsOfASparseFileAreFound) {
  auto bytes = Pattern(64 * kKiB, 1);
  ASSERT_THAT(Write(kMiB, bytes), IsOk());
  struct Expectation {
    uint64_t offset, length;
    bool is_hole;
  };
  for (const Expectation& expected : std::vector<Expectation>{
           {0, kMiB, true},
           {512, kMiB - 512, true},
           {kMiB, 64 * kKiB, false},
           {kMiB + 4096, 60 * kKiB, false},
           {kMiB + 64 * kKiB, kSize - kMiB - 64 * kKiB, true},
           {kSize - 512, 512, true}}) {
    const auto extent = device_->FindExtent(expected.offset);
    ASSERT_THAT(extent, IsOk());
    EXPECT_EQ(extent->length, expected.length) << expected.offset;
    EXPECT_EQ(extent->is_hole, expected.is_hole) << expected.offset;
  }
  EXPECT_THAT(device_->FindExtent(kSize),
              StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_P(BackingDeviceTest, ReadOnlyDeviceRefusesWrites) {
  auto bytes = Pattern(512, 1);
  ASSERT_THAT(Write(0, bytes), IsOk());
  device_.reset();
  device_ = Open(/*read_only=*/true);
  ASSERT_NE(device_, nullptr);
  constexpr auto kFailedPrecondition = absl::StatusCode::kFailedPrecondition;

  EXPECT_TRUE(device_->is_read_only());
  EXPECT_THAT(Read(0, bytes), IsOk());
  EXPECT_EQ(bytes, Pattern(512, 1));
  EXPECT_THAT(Write(0, bytes), StatusIs(kFailedPrecondition));
  EXPECT_THAT(Run(Operation::kDiscard, 0, 512), StatusIs(kFailedPrecondition));
  EXPECT_THAT(Run(Operation::kFlush, 0, 0), IsOk());
}

// A batch of requests of all kinds that do not overlap, and what they should
// do to the contents.
class RandomBatch {
 public:
  static constexpr uint64_t kSlots = 16;
  static constexpr uint64_t kSlotSize = 256 * kKiB;

  RandomBatch(std::mt19937_64& random, std::vector<std::byte>& model)
      : random_(random), model_(model), pending_(kSlots) {
    for (uint64_t slot = 0; slot < kSlots; ++slot) AddRequest(slot);
  }

  void Run(BackingDevice& device, Submission submission) {
    device.Submit(std::move(requests_), submission);
    pending_.Wait();
  }

  void Check() {
    for (const absl::Status& result : results_) ASSERT_THAT(result, IsOk());
    for (const auto& [offset, bytes] : reads_) {
      ASSERT_TRUE(
          SameBytes(bytes, std::span(model_).subspan(offset, bytes.size())))
          << "read at offset " << offset;
    }
  }

 private:
  void AddRequest(uint64_t slot) {
    const uint64_t begin = random_() % (kSlotSize / 512);
    const uint64_t sectors = random_() % (kSlotSize / 512 - begin) + 1;
    // Half of them are whole pages.
    const uint64_t unit = random_() % 2 == 0 ? 4096 : 512;
    BackingRequest request;
    request.offset = slot * kSlotSize + RoundDown(begin * 512, unit);
    request.length = std::max(unit, RoundDown(sectors * 512, unit));
    request.operation = static_cast<Operation>(random_() % 5);
    if (request.operation == Operation::kRead ||
        request.operation == Operation::kWrite) {
      AddBuffer(request);
    } else if (request.operation != Operation::kFlush) {
      std::fill_n(model_.begin() + request.offset, request.length,
                  std::byte{0});
    }
    request.done = [this, slot](absl::Status status) {
      results_[slot] = std::move(status);
      pending_.DecrementCount();
    };
    requests_.push_back(std::move(request));
  }

  void AddBuffer(BackingRequest& request) {
    buffers_.emplace_back(request.length, random_() % 3 * 256);
    const auto bytes = buffers_.back().bytes();
    FillPattern(bytes, random_());
    request.buffers = {bytes};
    if (request.operation == Operation::kRead) {
      reads_.emplace_back(request.offset, bytes);
    } else {
      std::copy(bytes.begin(), bytes.end(), model_.begin() + request.offset);
    }
  }

  std::mt19937_64& random_;
  std::vector<std::byte>& model_;
  absl::BlockingCounter pending_;
  std::vector<BackingRequest> requests_;
  std::vector<TestBuffer> buffers_;
  std::vector<std::pair<uint64_t, std::span<std::byte>>> reads_;
  std::vector<absl::Status> results_{kSlots, absl::UnknownError("not done")};
};

TEST_P(BackingDeviceTest, RandomRequestsMatchAModel) {
  std::mt19937_64 random(RandomSeed());
  std::vector<std::byte> model(kSize);
  for (int round = 0; round < 25 && !HasFatalFailure(); ++round) {
    SCOPED_TRACE(round);
    RandomBatch batch(random, model);
    batch.Run(*device_,
              random() % 2 == 0 ? Submission::kDirect : Submission::kQueued);
    batch.Check();
  }
  EXPECT_TRUE(SameBytes(Contents(0, kSize), model));
}

}  // namespace
}  // namespace pcachefs
