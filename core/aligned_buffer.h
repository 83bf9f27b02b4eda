// Memory that devices can transfer to directly.

#ifndef PCACHEFS_CORE_ALIGNED_BUFFER_H_
#define PCACHEFS_CORE_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

#include "glog/logging.h"
#include "meta/units.h"

namespace pcachefs {

// Move-only; contents start undefined.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size)
      : bytes_(static_cast<std::byte*>(std::aligned_alloc(
            kBlockSize, RoundUp(size == 0 ? 1 : size, kBlockSize)))),
        size_(size) {
    CHECK(bytes_ != nullptr) << "out of memory: " << size << " bytes";
  }

  std::span<std::byte> span() { return {bytes_.get(), size_}; }
  std::span<const std::byte> span() const { return {bytes_.get(), size_}; }
  std::byte* data() { return bytes_.get(); }
  const std::byte* data() const { return bytes_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  std::unique_ptr<std::byte[], Free> bytes_;
  size_t size_ = 0;
};

inline AlignedBuffer CopyOf(std::span<const std::byte> bytes) {
  AlignedBuffer copy(bytes.size());
  std::memcpy(copy.data(), bytes.data(), bytes.size());
  return copy;
}

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_ALIGNED_BUFFER_H_
