#include "iobackend/memory_write_back.h"

#include <atomic>
#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace pcachefs {

#if defined(__x86_64__)

namespace {

constexpr uintptr_t kCacheLineSize = 64;

using LineFunction = void (*)(uintptr_t begin, uintptr_t end);

__attribute__((target("clwb"))) void WriteBackLines(uintptr_t begin,
                                                    uintptr_t end) {
  for (; begin < end; begin += kCacheLineSize) {
    _mm_clwb(reinterpret_cast<void*>(begin));
  }
}

__attribute__((target("clflushopt"))) void FlushLinesUnordered(uintptr_t begin,
                                                               uintptr_t end) {
  for (; begin < end; begin += kCacheLineSize) {
    _mm_clflushopt(reinterpret_cast<void*>(begin));
  }
}

void FlushLines(uintptr_t begin, uintptr_t end) {
  for (; begin < end; begin += kCacheLineSize) {
    _mm_clflush(reinterpret_cast<const void*>(begin));
  }
}

LineFunction ChooseLineFunction() {
  unsigned eax, ebx, ecx, edx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return FlushLines;
  constexpr unsigned kClflushopt = 1u << 23;
  constexpr unsigned kClwb = 1u << 24;
  if ((ebx & kClwb) != 0) return WriteBackLines;
  if ((ebx & kClflushopt) != 0) return FlushLinesUnordered;
  return FlushLines;
}

}  // namespace

bool CanWriteBackMemory() { return true; }

void WriteBackMemory(std::span<const std::byte> bytes) {
  static const LineFunction function = ChooseLineFunction();
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data());
  function(begin & ~(kCacheLineSize - 1), begin + bytes.size());
}

void StoreFence() { _mm_sfence(); }

#else

bool CanWriteBackMemory() { return false; }

void WriteBackMemory(std::span<const std::byte>) {}

void StoreFence() { std::atomic_thread_fence(std::memory_order_seq_cst); }

#endif

}  // namespace pcachefs
