#include "meta/crc32c.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "absl/base/macros.h"
#include "meta/endian.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define PCACHEFS_CRC32C_X86 1
#endif

namespace pcachefs {
namespace crc32c_internal {
namespace {

// x^32 + x^28 + ... + 1 with the coefficient of x^31 in bit 0, as all bytes
// here are reflected.
constexpr uint32_t kPolynomial = 0x82f63b78;

// `crc` times x, modulo the polynomial.
constexpr uint32_t TimesX(uint32_t crc) {
  return (crc >> 1) ^ ((crc & 1) ? kPolynomial : 0);
}

// kTables[k][b] carries byte b past k more bytes.
using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables MakeTables() {
  Tables tables = {};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = TimesX(crc);
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < tables.size(); ++k) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const uint32_t crc = tables[k - 1][byte];
      tables[k][byte] = (crc >> 8) ^ tables[0][crc & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

#if defined(PCACHEFS_CRC32C_X86)

// x^exponent modulo the polynomial.
constexpr uint32_t PowerOfX(int exponent) {
  uint32_t power = 0x80000000;  // x^0
  for (int i = 0; i < exponent; ++i) power = TimesX(power);
  return power;
}

// The instruction takes 8 bytes per cycle but needs 3 cycles until its result
// can be used, so three independent streams keep it busy. Each stream covers
// `kLength` bytes; the first two are then moved past what follows them. The
// carry-less product of two reflected 32-bit polynomials is their product times
// x, and the CRC instruction multiplies by x^32 as it reduces: so moving past n
// bytes takes the constant x^(8n - 33).
template <size_t kLength>
__attribute__((target("sse4.2,pclmul"))) inline uint32_t ExtendThreeStreams(
    uint32_t crc, const std::byte* data) {
  static_assert(kLength % 8 == 0);
  constexpr uint32_t kPastOne = PowerOfX(8 * int{kLength} - 33);
  constexpr uint32_t kPastTwo = PowerOfX(16 * int{kLength} - 33);

  uint64_t crc0 = crc;
  uint64_t crc1 = 0;
  uint64_t crc2 = 0;
  for (size_t i = 0; i < kLength; i += 8) {
    uint64_t word0, word1, word2;
    std::memcpy(&word0, data + i, 8);
    std::memcpy(&word1, data + kLength + i, 8);
    std::memcpy(&word2, data + 2 * kLength + i, 8);
    crc0 = _mm_crc32_u64(crc0, word0);
    crc1 = _mm_crc32_u64(crc1, word1);
    crc2 = _mm_crc32_u64(crc2, word2);
  }
  const __m128i moved0 =
      _mm_clmulepi64_si128(_mm_cvtsi64_si128(static_cast<int64_t>(crc0)),
                           _mm_cvtsi32_si128(static_cast<int>(kPastTwo)), 0);
  const __m128i moved1 =
      _mm_clmulepi64_si128(_mm_cvtsi64_si128(static_cast<int64_t>(crc1)),
                           _mm_cvtsi32_si128(static_cast<int>(kPastOne)), 0);
  const int64_t moved = _mm_cvtsi128_si64(_mm_xor_si128(moved0, moved1));
  return static_cast<uint32_t>(crc2) ^
         static_cast<uint32_t>(_mm_crc32_u64(0, static_cast<uint64_t>(moved)));
}

// Three such streams leave 16 bytes of a block.
constexpr size_t kLongStream = 1360;
constexpr size_t kShortStream = 128;

#endif  // PCACHEFS_CRC32C_X86

using ExtendFunction = uint32_t (*)(uint32_t, std::span<const std::byte>);

ExtendFunction ChooseExtend() {
  return HardwareSupported() ? ExtendHardware : ExtendPortable;
}

}  // namespace

uint32_t ExtendPortable(uint32_t crc, std::span<const std::byte> bytes) {
  crc = ~crc;
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
    const uint64_t word = LoadLittle<uint64_t>(bytes, 0) ^ crc;
    crc = 0;
    for (int i = 0; i < 8; ++i) {
      crc ^= kTables[7 - i][(word >> (8 * i)) & 0xff];
    }
  }
  for (const std::byte byte : bytes) {
    crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<uint32_t>(byte)) & 0xff];
  }
  return ~crc;
}

#if defined(PCACHEFS_CRC32C_X86)

bool HardwareSupported() {
  return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

__attribute__((target("sse4.2,pclmul"))) uint32_t ExtendHardware(
    uint32_t crc, std::span<const std::byte> bytes) {
  const std::byte* data = bytes.data();
  size_t length = bytes.size();
  uint32_t state = ~crc;
  for (; length >= 3 * kLongStream; length -= 3 * kLongStream) {
    state = ExtendThreeStreams<kLongStream>(state, data);
    data += 3 * kLongStream;
  }
  for (; length >= 3 * kShortStream; length -= 3 * kShortStream) {
    state = ExtendThreeStreams<kShortStream>(state, data);
    data += 3 * kShortStream;
  }
  uint64_t wide = state;
  for (; length >= 8; length -= 8) {
    uint64_t word;
    std::memcpy(&word, data, 8);
    wide = _mm_crc32_u64(wide, word);
    data += 8;
  }
  state = static_cast<uint32_t>(wide);
  for (; length > 0; --length) {
    state = _mm_crc32_u8(state, static_cast<uint8_t>(*data++));
  }
  return ~state;
}

#else

bool HardwareSupported() { return false; }

uint32_t ExtendHardware(uint32_t crc, std::span<const std::byte> bytes) {
  ABSL_HARDENING_ASSERT(HardwareSupported());
  return ExtendPortable(crc, bytes);
}

#endif  // PCACHEFS_CRC32C_X86

}  // namespace crc32c_internal

uint32_t ExtendCrc32c(uint32_t crc, std::span<const std::byte> bytes) {
  static const crc32c_internal::ExtendFunction extend =
      crc32c_internal::ChooseExtend();
  return extend(crc, bytes);
}

uint32_t Crc32c(std::span<const std::byte> bytes) {
  return ExtendCrc32c(0, bytes);
}

}  // namespace pcachefs
