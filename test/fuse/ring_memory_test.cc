#include "fuse/ring_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/testing/status_matchers.h"

namespace pcachefs {
namespace {

constexpr int kQueues = 3;
constexpr int kDepth = 4;

using EntryState = RingMemory::EntryState;

auto IsRefused() { return StatusIs(absl::StatusCode::kFailedPrecondition); }

TEST(RingMemory, PlacesDoNotOverlap) {
  auto memory = RingMemory::Create(kQueues, kDepth);
  ASSERT_THAT(memory, IsOk());
  const std::byte* end =
      reinterpret_cast<std::byte*>(&(*memory)->state(kQueues - 1, kDepth - 1)) +
      sizeof(EntryState);
  for (int queue = 0; queue < kQueues; ++queue) {
    for (int entry = 0; entry < kDepth; ++entry) {
      const auto* const header =
          reinterpret_cast<std::byte*>(&(*memory)->header(queue, entry));
      EXPECT_GE(header, end);
      EXPECT_EQ((*memory)->payload(queue, entry),
                header + RingMemory::kHeaderSize);
      end = (*memory)->payload(queue, entry) + RingMemory::kPayloadSize;
    }
  }
  (*memory)->payload(kQueues - 1, kDepth - 1)[RingMemory::kPayloadSize - 1] =
      std::byte{1};
}

TEST(RingMemory, ASuccessorFindsAllAtTheSamePlace) {
  auto memory = RingMemory::Create(kQueues, kDepth);
  ASSERT_THAT(memory, IsOk());
  (*memory)->state(2, 3).phase = EntryState::kInHand;
  (*memory)->header(2, 3).commit_id = 77;
  (*memory)->payload(2, 3)[5] = std::byte{42};
  const std::byte* const place = (*memory)->payload(2, 3);
  const int kept = dup((*memory)->fd());
  memory->reset();

  auto again = RingMemory::Open(kept);
  ASSERT_THAT(again, IsOk());
  EXPECT_EQ((*again)->queues(), kQueues);
  EXPECT_EQ((*again)->depth(), kDepth);
  EXPECT_EQ((*again)->payload(2, 3), place);
  EXPECT_EQ((*again)->payload(2, 3)[5], std::byte{42});
  EXPECT_EQ((*again)->header(2, 3).commit_id, 77u);
  EXPECT_EQ((*again)->state(2, 3).phase, EntryState::kInHand);
  EXPECT_EQ((*again)->state(2, 2).phase, EntryState::kNew);
}

TEST(RingMemory, ItsSizeIsForEver) {
  auto memory = RingMemory::Create(1, 1);
  ASSERT_THAT(memory, IsOk());
  EXPECT_NE(ftruncate((*memory)->fd(), 0), 0);
  EXPECT_NE(ftruncate((*memory)->fd(), int64_t{1} << 30), 0);
  struct stat attributes;
  ASSERT_EQ(fstat((*memory)->fd(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 0777, 0600u);
  EXPECT_NE(fcntl((*memory)->fd(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(RingMemory, AnAddressThatIsTakenIsRefused) {
  auto memory = RingMemory::Create(1, 1);
  ASSERT_THAT(memory, IsOk());
  EXPECT_THAT(RingMemory::Open(dup((*memory)->fd())), IsRefused());
}

TEST(RingMemory, AnotherLayoutIsRefused) {
  const int empty = memfd_create("test", MFD_CLOEXEC);
  ASSERT_GE(empty, 0);
  EXPECT_THAT(RingMemory::Open(empty), IsRefused());

  // Words of the head: magic, address, size, and two halves.
  for (const int word : {0, 2, 3}) {
    auto memory = RingMemory::Create(kQueues, kDepth);
    ASSERT_THAT(memory, IsOk());
    const int kept = dup((*memory)->fd());
    memory->reset();
    uint64_t value = 0;
    ASSERT_EQ(pread(kept, &value, 8, 8 * word), 8);
    ++value;
    ASSERT_EQ(pwrite(kept, &value, 8, 8 * word), 8);
    EXPECT_THAT(RingMemory::Open(kept), IsRefused()) << "word " << word;
  }
}

}  // namespace
}  // namespace pcachefs
