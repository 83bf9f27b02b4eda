// What of a ring's queue needs no mount: the answers that other threads bring.

#include "fuse/ring_queue.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sys/uio.h>

#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "fuse/connection.h"
#include "fuse/ring_memory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr int kDepth = 4;
using EntryState = RingMemory::EntryState;

class RingQueueTest : public testing::Test {
 protected:
  void SetUp() override {
    auto memory = RingMemory::Create(1, kDepth);
    ASSERT_THAT(memory, IsOk());
    memory_ = *std::move(memory);
    queue_ = std::make_unique<RingQueue>(0, *memory_, /*session=*/nullptr,
                                         /*fd=*/-1, connection_);
    for (int entry = 0; entry < kDepth; ++entry) {
      memory_->state(0, entry).phase = EntryState::kInHand;
    }
  }

  bool Answer(int entry, int error, std::vector<std::string> parts) {
    std::vector<iovec> vectors;
    for (std::string& part : parts) {
      vectors.push_back({part.data(), part.size()});
    }
    return queue_->Answer(entry, error, vectors);
  }
  fuse_out_header HeaderOf(int entry) {
    fuse_out_header header;
    std::memcpy(&header, memory_->header(0, entry).in_out, sizeof(header));
    return header;
  }
  absl::string_view PayloadOf(int entry) {
    return {reinterpret_cast<char*>(memory_->payload(0, entry)),
            memory_->header(0, entry).payload_size};
  }

  Connection connection_;
  std::unique_ptr<RingMemory> memory_;
  std::unique_ptr<RingQueue> queue_;
};

TEST_F(RingQueueTest, AnAnswerIsInItsEntry) {
  ASSERT_TRUE(Answer(1, 0, {"ab", "", "cde"}));
  EXPECT_EQ(PayloadOf(1), "abcde");
  EXPECT_EQ(HeaderOf(1).error, 0);
  EXPECT_EQ(HeaderOf(1).len, sizeof(fuse_out_header) + 5);

  ASSERT_TRUE(Answer(2, ENOSPC, {}));
  EXPECT_EQ(PayloadOf(2), "");
  EXPECT_EQ(HeaderOf(2).error, -ENOSPC);
  EXPECT_EQ(HeaderOf(2).len, sizeof(fuse_out_header));
  EXPECT_EQ(PayloadOf(1), "abcde");
}

// An answered one is one that the kernel may give a request out in.
TEST_F(RingQueueTest, IsFullOfRequestsInHandOnly) {
  EXPECT_TRUE(queue_->IsFull());
  ASSERT_TRUE(Answer(3, 0, {}));
  EXPECT_FALSE(queue_->IsFull());
  EXPECT_EQ(memory_->state(0, 3).phase, EntryState::kAnswered);
  memory_->state(0, 3).phase = EntryState::kNew;
  EXPECT_FALSE(queue_->IsFull());
  memory_->state(0, 3).phase = EntryState::kInHand;
  EXPECT_TRUE(queue_->IsFull());
}

TEST_F(RingQueueTest, ASealedOneLeavesRequestsToTheSuccessor) {
  memory_->header(0, 0).payload_size = 3;
  std::memcpy(memory_->payload(0, 0), "old", 3);
  queue_->Seal();
  EXPECT_FALSE(Answer(0, 0, {"new"}));
  EXPECT_EQ(PayloadOf(0), "old");
  EXPECT_EQ(memory_->state(0, 0).phase, EntryState::kInHand);
}

// Each answer is given whole, or not at all.
TEST_F(RingQueueTest, SealWaitsForAnswersOnTheirWay) {
  std::vector<std::thread> threads;
  std::vector<char> were_given(kDepth);
  for (int entry = 0; entry < kDepth; ++entry) {
    threads.emplace_back([&, entry] {
      were_given[entry] = Answer(entry, 0, {std::string(100'000, 'x')});
    });
  }
  queue_->Seal();
  std::vector<uint32_t> phases;
  for (int entry = 0; entry < kDepth; ++entry) {
    phases.push_back(memory_->state(0, entry).phase);
  }
  for (std::thread& thread : threads) thread.join();
  for (int entry = 0; entry < kDepth; ++entry) {
    EXPECT_EQ(phases[entry], were_given[entry] ? EntryState::kAnswered
                                               : EntryState::kInHand);
    EXPECT_EQ(memory_->state(0, entry).phase, phases[entry]);
    if (were_given[entry]) {
      EXPECT_EQ(PayloadOf(entry), std::string(100'000, 'x'));
    }
  }
}

}  // namespace
}  // namespace pcachefs
