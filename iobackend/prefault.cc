#include "iobackend/prefault.h"

#include <sys/mman.h>

#include <algorithm>

namespace pcachefs {
namespace {

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

}  // namespace

Prefault::Prefault(std::byte* begin, size_t size, bool is_new)
    : begin_(begin),
      size_(size),
      is_new_(is_new),
      ready_(size / kWindow / 64 + 1) {}

void Prefault::Populate(uint64_t window) {
  // Two who come at once do it twice, which is harmless.
  ready_[window / 64].fetch_or(uint64_t{1} << (window % 64),
                               std::memory_order_relaxed);
  const uint64_t offset = window * kWindow;
  // Kernels before 5.14 do not know it, and fault as ever.
  (void)madvise(begin_ + offset, std::min<uint64_t>(kWindow, size_ - offset),
                is_new_ ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

}  // namespace pcachefs
