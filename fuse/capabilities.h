// What the mount asks the kernel for, each with its reason.

#ifndef PCACHEFS_FUSE_CAPABILITIES_H_
#define PCACHEFS_FUSE_CAPABILITIES_H_

#include "fuse/libfuse.h"

namespace pcachefs {

void RequestCapabilities(fuse_conn_info* info);

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_CAPABILITIES_H_
