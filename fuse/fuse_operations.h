// FUSE requests into calls of a FileSystem: one small function each.
//
// Never implemented: locks, which the kernel then keeps itself, as QEMU needs.
// Creation, removal and links are refused.

#ifndef PCACHEFS_FUSE_FUSE_OPERATIONS_H_
#define PCACHEFS_FUSE_FUSE_OPERATIONS_H_

#include "fuse/libfuse.h"

namespace pcachefs {

// The session's user data is a Connection whose file_system is a FileSystem.
fuse_lowlevel_ops FuseOperations();

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_FUSE_OPERATIONS_H_
