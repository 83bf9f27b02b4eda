#include "fuse/ring_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pcachefs {
namespace {

// Far from where Linux puts programs, libraries and stacks.
constexpr uintptr_t kWish = 0x2000'0000'0000;
constexpr size_t kPage = 4096;
constexpr size_t kStride = RingMemory::kHeaderSize + RingMemory::kPayloadSize;
// The kernel numbers queues with 16 bits.
constexpr uint32_t kMaxQueues = 1 << 16;
constexpr uint32_t kMaxDepth = 1 << 16;

std::byte* Map(int fd, uintptr_t address, size_t size) {
  void* const wish = reinterpret_cast<void*>(address);
  void* const mapped = mmap(wish, size, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
  return mapped == MAP_FAILED ? nullptr : static_cast<std::byte*>(mapped);
}

}  // namespace

size_t RingMemory::StatesSize(int queues, int depth) {
  const size_t size =
      sizeof(Head) + static_cast<size_t>(queues) * depth * sizeof(EntryState);
  return (size + kPage - 1) / kPage * kPage;
}

size_t RingMemory::SizeOf(int queues, int depth) {
  return StatesSize(queues, depth) +
         static_cast<size_t>(queues) * depth * kStride;
}

absl::StatusOr<std::unique_ptr<RingMemory>> RingMemory::Create(int queues,
                                                               int depth) {
  const int fd = memfd_create("pcachefs-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return absl::ErrnoToStatus(errno, "memory for rings");
  const size_t size = SizeOf(queues, depth);
  std::byte* bytes = nullptr;
  // A file that shrinks kills who has it mapped.
  if (fchmod(fd, 0600) == 0 && ftruncate(fd, static_cast<off_t>(size)) == 0 &&
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
    bytes = Map(fd, kWish, size);
  }
  if (bytes == nullptr) {
    const int error = errno;
    close(fd);
    return absl::ErrnoToStatus(error, "memory for rings");
  }
  auto memory = absl::WrapUnique(new RingMemory(fd, bytes, size));
  memory->head() = {.magic = Head::kMagic,
                    .address = reinterpret_cast<uintptr_t>(bytes),
                    .size = size,
                    .queues = static_cast<uint32_t>(queues),
                    .depth = static_cast<uint32_t>(depth)};
  return memory;
}

absl::StatusOr<std::unique_ptr<RingMemory>> RingMemory::Open(int fd) {
  Head head = {};
  struct stat attributes;
  if (pread(fd, &head, sizeof(head), 0) != sizeof(head) ||
      head.magic != Head::kMagic || fstat(fd, &attributes) != 0 ||
      static_cast<uint64_t>(attributes.st_size) != head.size ||
      head.queues > kMaxQueues || head.depth > kMaxDepth ||
      SizeOf(head.queues, head.depth) != head.size) {
    close(fd);
    return absl::FailedPreconditionError(
        "failover: the rings are not laid out as this version does; it cannot "
        "take over, restart instead");
  }
  std::byte* const bytes = Map(fd, head.address, head.size);
  if (bytes == nullptr) {
    const int error = errno;
    close(fd);
    return absl::FailedPreconditionError(
        absl::ErrnoToStatus(error, "failover: mapping the rings' memory")
            .message());
  }
  return absl::WrapUnique(new RingMemory(fd, bytes, head.size));
}

RingMemory::~RingMemory() {
  munmap(bytes_, size_);
  close(fd_);
}

RingMemory::EntryState& RingMemory::state(int queue, int entry) const {
  return reinterpret_cast<EntryState*>(bytes_ +
                                       sizeof(Head))[Number(queue, entry)];
}

std::byte* RingMemory::Place(int queue, int entry) const {
  return bytes_ + StatesSize(queues(), depth()) +
         Number(queue, entry) * kStride;
}

}  // namespace pcachefs
