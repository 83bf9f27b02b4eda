// Sizes and alignment arithmetic.

#ifndef PCACHEFS_META_UNITS_H_
#define PCACHEFS_META_UNITS_H_

#include <cstdint>

namespace pcachefs {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;
inline constexpr uint64_t kTiB = 1024 * kGiB;

// Granularity of image ranges. It is also the largest piece of media that a
// power cut leaves either old or new.
inline constexpr uint64_t kSectorSize = 512;

// Unit of payload placement and of payload checksums.
inline constexpr uint64_t kBlockSize = 4096;

// `alignment` is a power of two.
constexpr bool IsAligned(uint64_t value, uint64_t alignment) {
  return (value & (alignment - 1)) == 0;
}

constexpr uint64_t RoundDown(uint64_t value, uint64_t alignment) {
  return value & ~(alignment - 1);
}

constexpr uint64_t RoundUp(uint64_t value, uint64_t alignment) {
  return RoundDown(value + alignment - 1, alignment);
}

constexpr uint64_t DivideRoundingUp(uint64_t value, uint64_t divisor) {
  return value / divisor + (value % divisor != 0);
}

}  // namespace pcachefs

#endif  // PCACHEFS_META_UNITS_H_
