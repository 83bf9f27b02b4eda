// Copies what nobody will read soon past the processor's caches.
//
// An ordinary store first fetches the line that it is about to overwrite, and
// then pushes out another one that may be of use: with a cold target half of
// the traffic to memory is for nothing. Non-temporal stores do neither.

#ifndef PCACHEFS_IOBACKEND_STREAM_COPY_H_
#define PCACHEFS_IOBACKEND_STREAM_COPY_H_

#include <cstddef>
#include <span>

namespace pcachefs {

// As memcpy. `target` is at least as long as `source`, and they do not overlap;
// any alignment. The stores are ordered before all later ones of the thread,
// as ordinary ones are, so that who publishes the bytes publishes them whole; a
// process killed in the middle leaves some of them, as memcpy would. A plain
// memcpy for short copies and on processors other than x86-64.
void StreamCopy(std::byte* target, std::span<const std::byte> source);

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_STREAM_COPY_H_
