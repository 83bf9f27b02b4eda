#include "fuse/resident_buffer.h"

#include <glog/logging.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstring>

namespace pcachefs {

ResidentBuffer::ResidentBuffer(size_t size) {
  void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  PCHECK(memory != MAP_FAILED) << "no memory to read requests into";
  // Not by MAP_POPULATE, which does nothing under mlockall(MCL_ONFAULT).
  std::memset(memory, 0xff, size);
  bytes_ = {static_cast<std::byte*>(memory), size};
}

ResidentBuffer::~ResidentBuffer() { munmap(bytes_.data(), bytes_.size()); }

}  // namespace pcachefs
