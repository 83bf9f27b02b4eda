// What the kernel relies on of an image and no device records: how many times
// it is open, and what chmod and chown made of it. Kept across the daemons of
// one mount, in SharedImages.
//
// A request that is sent again counts once: its number stands in the same
// change as the count, and a change that a death interrupted is carried out by
// the successor. Thread-safe.

#ifndef PCACHEFS_FUSE_KEPT_IMAGES_H_
#define PCACHEFS_FUSE_KEPT_IMAGES_H_

#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "fuse/failover_state.h"
#include "fuse/image_directory.h"
#include "meta/types.h"

namespace pcachefs {

class KeptImages {
 public:
  struct Kept {
    int open_count = 0;
    std::optional<Ownership> ownership;
  };

  // `shared` outlives it.
  explicit KeptImages(SharedImages& shared);

  // What is known of the image with that id; of another one that had it, which
  // its tag tells, nothing.
  Kept Adopt(ImageId id, uint64_t tag);

  // Opened (1) or closed (-1) by the request of that number. False: has been
  // counted before.
  bool CountOpen(ImageId id, uint64_t unique, int change);
  void KeepOwnership(ImageId id, const Ownership& ownership);

 private:
  void CarryOut() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  SharedImages& shared_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_FUSE_KEPT_IMAGES_H_
