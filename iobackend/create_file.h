// Creates files whose space is there to stay.

#ifndef PCACHEFS_IOBACKEND_CREATE_FILE_H_
#define PCACHEFS_IOBACKEND_CREATE_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "iobackend/file_io.h"

namespace pcachefs {

// Creates `path` (mode 0600, no symbolic link followed), locks it exclusively,
// allocates `size` bytes that read as zeroes, and makes file and directory
// entry durable. On any failure the file is removed again. AlreadyExists if
// there is something at `path`; ResourceExhausted if there is no space.
absl::StatusOr<FileDescriptor> CreateFile(const std::string& path,
                                          uint64_t size);

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_CREATE_FILE_H_
