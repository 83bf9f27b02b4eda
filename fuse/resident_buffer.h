// Memory that is there before it is first used, and so can be read into by a
// process that is being killed: the kernel brings no pages in for such a one,
// and fails the request of FUSE that it was about to copy, with EIO.

#ifndef PCACHEFS_FUSE_RESIDENT_BUFFER_H_
#define PCACHEFS_FUSE_RESIDENT_BUFFER_H_

#include <cstddef>
#include <span>

namespace pcachefs {

class ResidentBuffer {
 public:
  explicit ResidentBuffer(size_t size);
  ~ResidentBuffer();
  ResidentBuffer(const ResidentBuffer&) = delete;
  ResidentBuffer& operator=(const ResidentBuffer&) = delete;

  std::span<std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_RESIDENT_BUFFER_H_
