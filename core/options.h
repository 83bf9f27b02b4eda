// What core/ can be told. Plain values; Validate() names the first bad field.

#ifndef PCACHEFS_CORE_OPTIONS_H_
#define PCACHEFS_CORE_OPTIONS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "meta/records.h"

namespace pcachefs {

// Of new images, bytes.
inline constexpr uint64_t kDefaultSequentialCutoff = 4 * kMiB;

struct FormatOptions {
  uint64_t segment_size = 0;  // bytes, 0 = by size of the device
  uint8_t gc_percent = 70;    // for new images
  std::string label;
  Uuid uuid;                  // nil: random
};

struct CacheOptions {
  // Acknowledged writes that nobody flushed are committed after this long.
  absl::Duration commit_interval = absl::Seconds(1);
  // Back-off of background work after an error: doubles from first to last.
  absl::Duration retry_first = absl::Milliseconds(100);
  absl::Duration retry_last = absl::Seconds(5);
  // Largest amount of dirty data written back in one step, bytes.
  uint64_t writeback_batch = 16 * kMiB;
  // Most that is read ahead of a sequential reader at a time, bytes; 0: nothing.
  uint64_t read_ahead = 2 * kMiB;
  // How often images look whether their backing devices have grown.
  absl::Duration size_check_interval = absl::Seconds(2);
  // False: the caller runs Cache::Step() itself (tests, the simulator).
  bool start_threads = true;

  absl::Status Validate() const;
};

struct ImageOptions {
  CacheMode mode = CacheMode::kWriteback;
  WritebackOrder order = WritebackOrder::kStrict;
  int gc_percent = -1;      // -1: the cache's default
  // Share of the cache of a new image in bytes; 0: an even one. Images whose
  // share nobody asked for make room for it.
  uint64_t cache_size = 0;
  bool is_default_size = false;  // nobody asked for cache_size
  bool read_only = false;   // refuses writes; nothing is written back
  // Of a new image: its backing device is never written to. What is written to the
  // image stays in the cache, and is bounded by its share: the same device can
  // stand behind images of many caches.
  bool read_only_backing = false;
  // Of a known image: this is its backing device from now on, whatever the
  // record says; it must have the recorded size. For a copy that takes the
  // place of one that was lost.
  bool replace_backing = false;

  absl::Status Validate() const;
};

// What becomes of an image that is taken out of service.
enum class DetachKind {
  kRemove,     // it is forgotten; refused while it has dirty or lost data
  kKeepDirty,  // all is kept for the next attach
  kDiscard,    // it is forgotten, dirty data too, and that data was lost
};

}  // namespace pcachefs

#endif  // PCACHEFS_CORE_OPTIONS_H_
