// CRC-32C (Castagnoli), as iSCSI, ext4 and SSE 4.2 have it: reflected, initial
// value and final xor 0xffffffff. Crc32c of "123456789" is 0xe3069283.
//
// Uses the processor's instruction where there is one, three streams at a time
// for long buffers, and tables elsewhere; the choice is made once at run time.
// Thread-safe.

#ifndef PCACHEFS_META_CRC32C_H_
#define PCACHEFS_META_CRC32C_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace pcachefs {

uint32_t Crc32c(std::span<const std::byte> bytes);

// CRC of A followed by `bytes`, where `crc` is the CRC of A.
uint32_t ExtendCrc32c(uint32_t crc, std::span<const std::byte> bytes);

namespace crc32c_internal {
// The two implementations, for tests and benchmarks.
uint32_t ExtendPortable(uint32_t crc, std::span<const std::byte> bytes);
bool HardwareSupported();
// Requires: HardwareSupported().
uint32_t ExtendHardware(uint32_t crc, std::span<const std::byte> bytes);
}  // namespace crc32c_internal

}  // namespace pcachefs

#endif  // PCACHEFS_META_CRC32C_H_
