// Proves that the simulated backing device keeps the contract of BackingDevice,
// fails as its header says, and notices its user's mistakes.

#include "test/fakes/fake_disk.h"

#include <cstddef>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "iobackend/backing_device.h"
#include "test/fakes/random.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using Operation = BackingRequest::Operation;

constexpr uint64_t kSize = 64 * 1024;

class FakeDiskTest : public testing::Test {
 protected:
  // Sends one request; its answer is appended to answers_ as `name`, with '!'
  // behind it if it failed.
  void Send(FakeDisk& disk, char name, Operation operation, uint64_t offset,
            std::vector<std::byte>* buffer,
            Submission submission = Submission::kDirect) {
    BackingRequest request;
    request.operation = operation;
    request.offset = offset;
    if (buffer != nullptr) {
      request.length = buffer->size();
      request.buffers.push_back(*buffer);
    }
    request.done = [this, name](absl::Status status) {
      answers_ += name;
      if (!status.ok()) answers_ += '!';
    };
    std::vector<BackingRequest> requests;
    requests.push_back(std::move(request));
    disk.Submit(std::move(requests), submission);
  }

  void Write(FakeDisk& disk, char name, uint64_t offset) {
    buffers_.push_back(
        std::make_unique<std::vector<std::byte>>(512, std::byte(name)));
    Send(disk, name, Operation::kWrite, offset, buffers_.back().get());
  }

  static char At(const FakeDisk& disk, uint64_t offset) {
    std::byte value;
    disk.media().visible().Read(offset, {&value, 1});
    return value == std::byte{0} ? '.' : static_cast<char>(value);
  }

  static void Drain(FakeDisk& disk) {
    while (disk.Step()) {
    }
  }

  std::string answers_;
  std::vector<std::unique_ptr<std::vector<std::byte>>> buffers_;
};

TEST_F(FakeDiskTest, CompletesInAnyOrder) {
  std::set<std::string> orders;
  for (int seed = 0; seed < 50; ++seed) {
    FakeDisk disk({.size = kSize, .seed = uint64_t(seed)});
    answers_.clear();
    Write(disk, 'a', 0);
    Write(disk, 'b', 512);
    EXPECT_EQ(At(disk, 0), '.');
    Drain(disk);
    EXPECT_EQ(At(disk, 0), 'a');
    EXPECT_EQ(At(disk, 512), 'b');
    orders.insert(answers_);
  }
  EXPECT_THAT(orders, UnorderedElementsAre("ab", "ba"));
}

TEST_F(FakeDiskTest, SynchronousDiskAnswersWithinSubmitUnlessQueued) {
  FakeDisk disk({.size = kSize, .synchronous = true});
  Write(disk, 'a', 0);
  EXPECT_EQ(answers_, "a");

  std::vector<std::byte> out(512);
  Send(disk, 'r', Operation::kRead, 0, &out, Submission::kQueued);
  EXPECT_EQ(answers_, "a");
  Drain(disk);
  EXPECT_EQ(answers_, "ar");
  EXPECT_EQ(out[0], std::byte{'a'});
}

TEST_F(FakeDiskTest, FlushCoversWhatCompletedBeforeItWasSubmitted) {
  FakeDisk disk({.size = kSize, .synchronous = true});
  Write(disk, 'a', 0);
  Send(disk, 'f', Operation::kFlush, 0, nullptr, Submission::kQueued);
  Write(disk, 'b', 512);
  Drain(disk);
  ASSERT_EQ(answers_, "abf");

  std::set<std::string> outcomes;
  for (int seed = 0; seed < 100; ++seed) {
    auto fork = disk.Fork();
    Random random(seed);
    fork->CutPower(random);
    outcomes.insert({At(*fork, 0), At(*fork, 512)});
  }
  EXPECT_THAT(outcomes, UnorderedElementsAre("a.", "ab"));
}

TEST_F(FakeDiskTest, CrashLeavesAnyPartOfAWriteInFlight) {
  std::set<std::string> outcomes;
  for (int seed = 0; seed < 100; ++seed) {
    FakeDisk disk({.size = kSize, .seed = uint64_t(seed)});
    answers_.clear();
    Write(disk, 'a', 0);
    disk.Stop();
    Write(disk, 'b', 512);  // too late: must leave no trace
    disk.CompletePending();
    EXPECT_THAT(answers_, testing::AnyOf("a!b!", "b!a!"));
    disk.Restart();
    outcomes.insert({At(disk, 0), At(disk, 512)});
  }
  EXPECT_THAT(outcomes, UnorderedElementsAre("..", "a."));
}

TEST_F(FakeDiskTest, StopAtStopsInTheMiddleOfAWrite) {
  FakeDisk disk({.size = kSize, .synchronous = true});
  bool stopped = false;
  disk.set_on_stop([&] { stopped = true; });
  disk.StopAt(1);
  Write(disk, 'a', 0);
  EXPECT_FALSE(stopped);
  Write(disk, 'b', 512);
  EXPECT_TRUE(stopped);
  EXPECT_EQ(answers_, "ab!");
}

TEST_F(FakeDiskTest, FailsByCountAndRange) {
  FakeDisk disk({.size = kSize, .synchronous = true});
  disk.FailNth(FakeDisk::kWrite | FakeDisk::kFlush, 1);
  disk.FailRange(FakeDisk::kWrite, 8192, 512);
  Write(disk, 'a', 0);
  Send(disk, 'f', Operation::kFlush, 0, nullptr);
  Send(disk, 'g', Operation::kFlush, 0, nullptr);
  Write(disk, 'b', 8192);
  EXPECT_EQ(answers_, "af!gb!");
}

TEST_F(FakeDiskTest, HangsAndRecovers) {
  FakeDisk disk({.size = kSize});
  disk.set_hanging(true);
  Write(disk, 'a', 0);
  EXPECT_FALSE(disk.Step());
  disk.set_hanging(false);
  EXPECT_TRUE(disk.Step());
  EXPECT_EQ(answers_, "a");
}

TEST_F(FakeDiskTest, FullDiskTakesOverwritesOnly) {
  FakeDisk disk({.size = kSize, .synchronous = true});
  Write(disk, 'a', 0);
  disk.set_full(true);
  Write(disk, 'b', 512);
  Write(disk, 'c', 8192);
  EXPECT_EQ(answers_, "abc!");
}

TEST_F(FakeDiskTest, ShortTransfersAreContinuedAroundWhatComesBetween) {
  std::set<std::string> seen;  // by a read of two sectors, beside a write
  for (int seed = 0; seed < 200; ++seed) {
    FakeDisk disk({.size = kSize, .short_percent = 50, .seed = uint64_t(seed)});
    answers_.clear();
    std::vector<std::byte> in(8 * 512, std::byte('w'));
    Send(disk, 'w', Operation::kWrite, 0, &in);
    std::vector<std::byte> out(2 * 512);
    Send(disk, 'r', Operation::kRead, 3 * 512, &out);
    Drain(disk);
    EXPECT_EQ(answers_.size(), 2u);
    for (uint64_t at = 0; at < in.size(); at += 512) {
      ASSERT_EQ(At(disk, at), 'w') << seed << ' ' << at;
    }
    seen.insert({out[0] == std::byte{0} ? '.' : 'w',
                 out[512] == std::byte{0} ? '.' : 'w'});
  }
  EXPECT_THAT(seen, UnorderedElementsAre("..", ".w", "w.", "ww"));
}

TEST_F(FakeDiskTest, ShortWriteIsThereInPartWhenTheDaemonDies) {
  FakeDisk disk({.size = kSize, .short_percent = 100});
  std::vector<std::byte> in(8 * 512, std::byte('w'));
  Send(disk, 'w', Operation::kWrite, 0, &in);
  ASSERT_TRUE(disk.Step());

  EXPECT_EQ(answers_, "");
  EXPECT_EQ(disk.short_transfers(), 1u);
  EXPECT_EQ(At(disk, 0), 'w');
  EXPECT_EQ(At(disk, 7 * 512), '.');
  disk.Stop();
  disk.CompletePending();
  EXPECT_EQ(answers_, "w!");
}

TEST_F(FakeDiskTest, NoticesMistakes) {
  FakeDisk disk({.size = kSize});
  Write(disk, 'a', 0);
  EXPECT_THAT(disk.mistakes(), IsEmpty());
  Write(disk, 'b', 0);
  Write(disk, 'c', 100);
  buffers_[0]->front() = std::byte{'z'};
  Drain(disk);
  EXPECT_THAT(disk.mistakes(),
              ElementsAre(HasSubstr("overlaps"), HasSubstr("not whole sectors"),
                          HasSubstr("overlaps"), HasSubstr("overlaps"),
                          HasSubstr("changed while borrowed")));
}

}  // namespace
}  // namespace pcachefs
