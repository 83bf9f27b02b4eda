#include "iobackend/stream_copy.h"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace pcachefs {

#if defined(__x86_64__)

namespace {

// Below this the fence costs more than is saved.
constexpr size_t kShortest = 2048;
constexpr size_t kLine = 64;

void StoreLine(std::byte* target, const std::byte* source) {
  auto* const to = reinterpret_cast<__m128i*>(target);
  const auto* const from = reinterpret_cast<const __m128i*>(source);
  const __m128i part0 = _mm_loadu_si128(from);
  const __m128i part1 = _mm_loadu_si128(from + 1);
  const __m128i part2 = _mm_loadu_si128(from + 2);
  const __m128i part3 = _mm_loadu_si128(from + 3);
  _mm_stream_si128(to, part0);
  _mm_stream_si128(to + 1, part1);
  _mm_stream_si128(to + 2, part2);
  _mm_stream_si128(to + 3, part3);
}

}  // namespace

void StreamCopy(std::byte* target, std::span<const std::byte> source) {
  if (source.size() < kShortest) {
    std::memcpy(target, source.data(), source.size());
    return;
  }
  // Whole lines only: a part of one would be a read and a write of it.
  const size_t head = -reinterpret_cast<uintptr_t>(target) % kLine;
  std::memcpy(target, source.data(), head);
  size_t at = head;
  for (; at + kLine <= source.size(); at += kLine) {
    StoreLine(target + at, source.data() + at);
  }
  std::memcpy(target + at, source.data() + at, source.size() - at);
  // Such stores are ordered by nothing else, not even a lock's release.
  _mm_sfence();
}

#else

void StreamCopy(std::byte* target, std::span<const std::byte> source) {
  std::memcpy(target, source.data(), source.size());
}

#endif

}  // namespace pcachefs
