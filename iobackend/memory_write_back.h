// Moves stores out of the processor's caches into persistent memory.

#ifndef PCACHEFS_IOBACKEND_MEMORY_WRITE_BACK_H_
#define PCACHEFS_IOBACKEND_MEMORY_WRITE_BACK_H_

#include <cstddef>
#include <span>

namespace pcachefs {

// False on processors for which this file has no instructions: memory there
// cannot be used as persistent.
bool CanWriteBackMemory();

// Starts the way of the cache lines of `bytes` to memory: clwb, clflushopt or
// clflush, the first that the processor has. Done once a StoreFence() of the
// same thread returned.
void WriteBackMemory(std::span<const std::byte> bytes);

void StoreFence();

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_MEMORY_WRITE_BACK_H_
