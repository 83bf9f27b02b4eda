// libfuse's low-level API in the version that this code is written for, and
// what differs between the releases that it builds with: 3.14 and later.

#ifndef PCACHEFS_FUSE_LIBFUSE_H_
#define PCACHEFS_FUSE_LIBFUSE_H_

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

static_assert(FUSE_VERSION >= FUSE_MAKE_VERSION(3, 12),
              "fuse_loop_cfg came with libfuse 3.12");

// FUSE over io_uring, and fuse_req_get_payload.
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
#define PCACHEFS_HAVE_FUSE_URING 1
#else
#define PCACHEFS_HAVE_FUSE_URING 0
#endif

// fuse_file_info::parallel_direct_writes; before that the flag goes into a
// reply to OPEN that is put together by hand.
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 15)
#define PCACHEFS_HAVE_PARALLEL_DIRECT_WRITES 1
#else
#define PCACHEFS_HAVE_PARALLEL_DIRECT_WRITES 0
#endif

// fuse_conn_info::want_ext and its accessors, and no_interrupt.
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
#define PCACHEFS_HAVE_FEATURE_FLAGS 1
#else
#define PCACHEFS_HAVE_FEATURE_FLAGS 0
#endif

#endif  // PCACHEFS_FUSE_LIBFUSE_H_
