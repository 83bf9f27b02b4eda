// Keeps the process alive when mapped memory fails.
//
// A load or store to a page that cannot be had (a hole in a full tmpfs, a
// truncated file, poisoned memory) raises SIGBUS. One handler for the process,
// installed by the first guard, marks the page as failed, maps an anonymous
// page of zeroes over it and lets the instruction go on; whoever uses the
// memory looks at the marks afterwards. Faults outside of guarded mappings go
// to the handler that was there before, so a crash reporter must be installed
// before the first device is opened.
//
// The registry is lock-free and all that the handler does is async-signal-safe.

#ifndef PCACHEFS_IOBACKEND_MAPPING_GUARD_H_
#define PCACHEFS_IOBACKEND_MAPPING_GUARD_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"

namespace pcachefs {

// Guards one mapping from Create() to its destruction; the mapping must live
// longer, and nobody may touch it while the guard is destroyed. Thread-safe.
class MappingGuard {
 public:
  // `page_size` is the smallest piece that can be mapped anew: a power of two,
  // the system's page size for all but huge pages. ResourceExhausted if there
  // are too many guards.
  static absl::StatusOr<std::unique_ptr<MappingGuard>> Create(
      const std::byte* begin, size_t size, size_t page_size);
  ~MappingGuard();

  MappingGuard(const MappingGuard&) = delete;
  MappingGuard& operator=(const MappingGuard&) = delete;

  // Offset of the first failed page that touches [offset, offset + length).
  // Ordering: a store to the page of zeroes, by any thread, is followed by the
  // sight of the mark on that thread.
  std::optional<size_t> FindFailure(size_t offset, size_t length) const;

  // For the signal handler.
  struct Slot;
  struct Marks {
    std::atomic<bool> any = false;
    std::atomic<uint64_t>* words = nullptr;  // a bit per page
    size_t words_size = 0;                   // bytes
  };

 private:
  explicit MappingGuard(size_t page_size) : page_size_(page_size) {}

  const size_t page_size_;
  Marks marks_;
  Slot* slot_ = nullptr;
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_MAPPING_GUARD_H_
