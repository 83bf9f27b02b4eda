// An array of bytes that is cheap to copy: copies share pages until one of them
// is written. Starts as zeroes, which take no memory.

#ifndef PCACHEFS_TEST_FAKES_COW_BYTES_H_
#define PCACHEFS_TEST_FAKES_COW_BYTES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace pcachefs {

// A value; an object is not thread-safe, copies are independent of each other.
class CowBytes {
 public:
  explicit CowBytes(uint64_t size);

  uint64_t size() const { return size_; }

  // Requires for all: offset + length <= size().
  void Read(uint64_t offset, std::span<std::byte> out) const;
  void Write(uint64_t offset, std::span<const std::byte> bytes);
  void Zero(uint64_t offset, uint64_t length);
  // Takes over `length` bytes of `other`, which has the same size.
  void CopyFrom(const CowBytes& other, uint64_t offset, uint64_t length);

  // True if the whole page around `offset` was never written, or zeroed whole.
  bool IsHole(uint64_t offset) const {
    return pages_[offset / kPageSize] == nullptr;
  }
  uint64_t allocated_bytes() const;

  static constexpr uint64_t kPageSize = 4096;

 private:
  using Page = std::array<std::byte, kPageSize>;

  // The page with this index, not shared with any copy.
  Page& OwnedPage(uint64_t index);

  uint64_t size_;
  std::vector<std::shared_ptr<Page>> pages_;  // nullptr: zeroes
};

}  // namespace pcachefs

#endif  // PCACHEFS_TEST_FAKES_COW_BYTES_H_
