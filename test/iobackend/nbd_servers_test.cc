// Proves that a backing device over NBD works with servers of every kind, alive:
// nbdkit with filters and qemu-nbd as they are installed.

#include <atomic>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "iobackend/backing_device.h"
#include "meta/units.h"
#include "test/iobackend/nbd_device_fixture.h"
#include "test/iobackend/test_files.h"
#include "test/testing/random_seed.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::HasSubstr;
using Operation = BackingRequest::Operation;

struct Kind {
  const char* name;
  // Arguments of nbdkit, before those of its file plugin; or, if empty, it is
  // qemu-nbd.
  std::vector<std::string> filters;
  std::vector<std::string> settings;
  bool tells_extents = true;
};

class NbdServersTest : public NbdDeviceFixture,
                       public ::testing::WithParamInterface<Kind> {
 protected:
  void SetUp() override {
    MakeSparseFile(file_, kSize);
    if (GetParam().filters.empty()) {
      server_.StartQemu({"--format=raw", "--discard=unmap", file_});
    } else {
      std::vector<std::string> arguments = GetParam().filters;
      arguments.insert(arguments.end(), {"file", file_});
      arguments.insert(arguments.end(), GetParam().settings.begin(),
                       GetParam().settings.end());
      server_.StartNbdkit(arguments);
    }
    ASSERT_THAT(Open(), IsOk());
  }
};

TEST_P(NbdServersTest, WhatIsWrittenIsReadAndStandsInTheFile) {
  std::mt19937_64 random(RandomSeed());
  std::vector<std::byte> expected(kSize);
  for (int round = 0; round < 60; ++round) {
    const uint64_t length = (random() % 4096 + 1) * 512;
    const uint64_t offset = random() % ((kSize - length) / 512) * 512;
    const auto part = std::span(expected).subspan(offset, length);
    if (random() % 4 == 0) {
      const auto operation =
          random() % 2 == 0 ? Operation::kZero : Operation::kDiscard;
      std::fill(part.begin(), part.end(), std::byte{0});
      ASSERT_THAT(Run(operation, offset, length), IsOk());
    } else {
      FillPattern(part, random());
      // In several buffers, as writeback has them.
      const uint64_t cut = length / 512 / 2 * 512;
      ASSERT_THAT(Run(Operation::kWrite, offset, length,
                      {part.first(cut), part.subspan(cut)}),
                  IsOk());
    }
    std::vector<std::byte> out(length);
    ASSERT_THAT(Run(Operation::kRead, offset, length,
                    {std::span(out).first(512), std::span(out).subspan(512)}),
                IsOk());
    ASSERT_TRUE(SameBytes(out, part)) << round;
  }
  ASSERT_THAT(Flush(), IsOk());

  EXPECT_TRUE(SameBytes(FileContents(), expected));
}

TEST_P(NbdServersTest, SectorsOfOneBlockAtATimeDoNotMixUp) {
  // All sectors of a few blocks, each by a request of its own, all at once.
  constexpr uint64_t kSectors = 512;
  auto expected = Pattern(kSectors * 512, 3);
  Countdown done(kSectors);
  std::vector<BackingRequest> requests;
  for (uint64_t i = 0; i < kSectors; ++i) {
    const uint64_t offset = (i * 7) % kSectors * 512;
    requests.push_back(Request(Operation::kWrite, offset,
                               std::span(expected).subspan(offset, 512)));
    requests.back().done = done.Done();
  }

  device_->Submit(std::move(requests), Submission::kQueued);

  EXPECT_THAT(done.Wait(), IsOk());
  std::vector<std::byte> out(expected.size());
  ASSERT_THAT(Read(0, out), IsOk());
  EXPECT_TRUE(SameBytes(out, expected));
}

TEST_P(NbdServersTest, ThreadsDoNotMixUpRequests) {
  constexpr int kThreads = 4;
  constexpr uint64_t kShare = kSize / kThreads;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i, seed = RandomSeed() + i] {
      std::mt19937_64 random(seed);
      for (int round = 0; round < 40; ++round) {
        const uint64_t length = (random() % 64 + 1) * 512;
        const uint64_t offset =
            i * kShare + random() % ((kShare - length) / 512) * 512;
        auto in = Pattern(length, random());
        std::vector<std::byte> out(length);
        wrong += !Write(offset, in).ok();
        wrong += !Flush().ok();
        wrong += !Read(offset, out).ok();
        wrong += !SameBytes(in, out);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(wrong, 0);
}

TEST_P(NbdServersTest, ExtentsAreTold) {
  auto bytes = Pattern(64 * kKiB, 1);
  ASSERT_THAT(Write(kMiB, bytes), IsOk());
  ASSERT_THAT(Flush(), IsOk());

  const auto first = device_->FindExtent(512);
  const auto data = device_->FindExtent(kMiB + 4096);

  ASSERT_THAT(first, IsOk());
  ASSERT_THAT(data, IsOk());
  EXPECT_FALSE(data->is_hole);
  if (GetParam().tells_extents) {
    EXPECT_TRUE(first->is_hole);
    EXPECT_EQ(first->length, kMiB - 512);
    EXPECT_EQ(data->length, 60 * kKiB);
  } else {
    EXPECT_FALSE(first->is_hole);
  }
  EXPECT_THAT(device_->FindExtent(kSize),
              StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_P(NbdServersTest, MistakesOfTheCallerAreReported) {
  std::vector<std::byte> bytes(1024);
  constexpr auto kOutOfRange = absl::StatusCode::kOutOfRange;
  constexpr auto kInvalidArgument = absl::StatusCode::kInvalidArgument;

  EXPECT_THAT(Read(kSize - 512, bytes), StatusIs(kOutOfRange));
  EXPECT_THAT(Write(kSize, bytes), StatusIs(kOutOfRange));
  EXPECT_THAT(Run(Operation::kDiscard, 0, kSize + 512), StatusIs(kOutOfRange));
  EXPECT_THAT(Read(100, bytes), StatusIs(kInvalidArgument));
  EXPECT_THAT(Run(Operation::kRead, 0, 512, {bytes}),
              StatusIs(kInvalidArgument));
  EXPECT_THAT(Run(Operation::kWrite, 0, 0), IsOk());
}

TEST_P(NbdServersTest, SubmissionsFromCompletionsAndDestructionEnd) {
  Countdown done(8);
  std::vector<std::byte> bytes(4096);
  for (int i = 0; i < 8; ++i) {
    BackingRequest read = Request(Operation::kRead, 0, bytes);
    read.done = [&](absl::Status) {
      BackingRequest flush = Request(Operation::kFlush, 0, {});
      flush.done = done.Done();
      SubmitOne(std::move(flush), Submission::kDirect);
    };
    SubmitOne(std::move(read), Submission::kQueued);
  }

  // Not reset(), since completions find the device here.
  delete device_.get();
  static_cast<void>(device_.release());

  EXPECT_THAT(done.Wait(), IsOk());
}

INSTANTIATE_TEST_SUITE_P(
    Servers, NbdServersTest,
    ::testing::Values(
        Kind{"File", {"--threads=8"}, {}},
        Kind{"OneConnection",
             {"--filter=multi-conn"},
             {"multi-conn-mode=disable"}},
        Kind{"LargeBlocks",
             {"--filter=blocksize-policy"},
             {"blocksize-minimum=4096", "blocksize-preferred=4096",
              "blocksize-maximum=65536", "blocksize-error-policy=error"}},
        Kind{"CannotZero", {"--filter=nozero"}, {}},
        Kind{"CannotTellExtents", {"--filter=noextents"}, {}, false},
        Kind{"Late", {"--filter=delay"}, {"delay-write=1ms", "delay-read=1ms"}},
        Kind{"Qemu", {}, {}}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace pcachefs
