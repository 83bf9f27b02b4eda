// The image cut into shards, so that requests on different parts do not meet on
// one lock: stripes of 4 MiB go round-robin to kShardCount shards.
//
// A shard's lock guards its part of the index and the fills in flight there.
// Lock order: shards by number, then the key log.

#ifndef PCACHEFS_CORE_SHARD_H_
#define PCACHEFS_CORE_SHARD_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "core/key_index.h"
#include "meta/types.h"

namespace pcachefs {

inline constexpr uint32_t kShardCount = 64;

// A placeholder: bytes of this range were read and will be used, unless it is
// overwritten first. Either a fill in flight, whose bytes are on their way from
// the backing device to the cache, or the edge sector of a read-modify-write.
// Guarded by the lock of its shard.
struct Fill {
  // Someone else who wants a part of the same bytes.
  struct Waiter {
    ImageRange range;
    // Gets the bytes of `range`, or an error.
    absl::AnyInvocable<void(const std::byte*, absl::Status)> deliver;
  };

  ImageRange range;        // within one stripe
  bool overwritten = false;  // the cache must not keep these bytes
  bool arrived = false;      // too late to wait for them
  bool is_read_ahead = false;  // nobody had asked when it was begun
  bool is_used = false;        // by someone who waited
  std::vector<Waiter> waiters;
};

struct Shard {
  explicit Shard(uint64_t segment_sectors) : index(segment_sectors) {}

  absl::Mutex mutex;
  KeyIndex index ABSL_GUARDED_BY(mutex);
  // Few at a time; looked through one by one.
  std::vector<std::shared_ptr<Fill>> fills ABSL_GUARDED_BY(mutex);
  // Fills that overlap `range` must not reach the index any more.
  void KillFills(ImageRange range) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    for (auto& fill : fills) {
      if (fill->range.Overlaps(range)) fill->overwritten = true;
    }
  }
  void ForgetFill(const Fill* fill) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::erase_if(fills, [fill](const auto& f) { return f.get() == fill; });
  }
};

// A part of an image range that lies in one stripe, as its shard sees it.
struct ShardSlice {
  uint32_t shard = 0;
  uint32_t start = 0;   // local sector
  uint32_t length = 0;  // sectors
  ImageOffset offset;   // of the slice in the image

  ImageRange range() const { return {offset, length * kSectorSize}; }
  // Where in the image a local sector of this slice's stripe is.
  ImageOffset OffsetOf(uint32_t local_sector) const {
    return ImageOffset(offset.value() +
                       (uint64_t{local_sector} - start) * kSectorSize);
  }
};

// Local sectors have 32 bits.
inline constexpr uint64_t kMaxIndexedSize =
    (uint64_t{1} << 32) * kSectorSize * kShardCount;

// Requires: sector-aligned range.
inline void ForEachSlice(ImageRange range,
                         absl::FunctionRef<void(const ShardSlice&)> visit) {
  while (!range.empty()) {
    const uint64_t stripe = range.offset.value() / kStripeSize;
    const uint64_t in_stripe = range.offset.value() % kStripeSize;
    const uint64_t length = std::min(range.length, kStripeSize - in_stripe);
    visit({.shard = static_cast<uint32_t>(stripe % kShardCount),
           .start = static_cast<uint32_t>(stripe / kShardCount *
                                              kStripeSectors +
                                          in_stripe / kSectorSize),
           .length = static_cast<uint32_t>(length / kSectorSize),
           .offset = range.offset});
    range.offset += length;
    range.length -= length;
  }
}

// The inverse of ForEachSlice for one local sector.
inline ImageOffset ImageOffsetOf(uint32_t shard, uint32_t local_sector) {
  const uint64_t stripe =
      uint64_t{local_sector / kStripeSectors} * kShardCount + shard;
  return ImageOffset(stripe * kStripeSize +
                     local_sector % kStripeSectors * kSectorSize);
}

class Shards {
 public:
  explicit Shards(uint64_t segment_sectors) {
    for (uint32_t i = 0; i < kShardCount; ++i) {
      shards_.push_back(std::make_unique<Shard>(segment_sectors));
    }
  }

  Shard& operator[](uint32_t index) { return *shards_[index]; }

 private:
  std::vector<std::unique_ptr<Shard>> shards_;
};

// Holds the locks of all shards that a range touches, taken in order.
class ShardLocks {
 public:
  ShardLocks(Shards& shards, ImageRange range) ABSL_NO_THREAD_SAFETY_ANALYSIS
      : shards_(shards) {
    ForEachSlice(range, [this](const ShardSlice& slice) {
      locked_ |= uint64_t{1} << slice.shard;
    });
    for (uint32_t i = 0; i < kShardCount; ++i) {
      if (locked_ >> i & 1) shards_[i].mutex.Lock();
    }
  }
  ~ShardLocks() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    for (uint32_t i = kShardCount; i-- > 0;) {
      if (locked_ >> i & 1) shards_[i].mutex.Unlock();
    }
  }
  ShardLocks(const ShardLocks&) = delete;
  ShardLocks& operator=(const ShardLocks&) = delete;

 private:
  static_assert(kShardCount <= 64);
  Shards& shards_;
  uint64_t locked_ = 0;
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_SHARD_H_
