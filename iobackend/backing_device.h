// The interface to the slow device behind one image: asynchronous requests.
//
// core/ sees backing devices only through this class; tests inject simulated
// ones. An object is owned by whoever made it and outlives the CachedImage
// over it.

#ifndef PCACHEFS_IOBACKEND_BACKING_DEVICE_H_
#define PCACHEFS_IOBACKEND_BACKING_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "meta/records.h"
#include "meta/types.h"

namespace pcachefs {

// One request to a backing device; a plain value that moves.
struct BackingRequest {
  enum class Operation {
    kRead,     // device -> buffers
    kWrite,    // buffers -> device; durable after a kFlush
    kZero,     // `length` bytes read as zeroes afterwards
    kDiscard,  // the same, and the space is given up where that is possible
    // Makes every request that completed before the call durable. After a
    // failure all that was written since the last success must be written
    // again: the system may have dropped it, and will not tell twice.
    kFlush,
  };

  // Whose memory the buffers are; in both cases they are borrowed until `done`
  // and transferred without a copy.
  enum class Kind {
    kRequestType,  // a slice of an upper request's buffer (a miss)
    kMemoryType,   // a buffer of the cache's own (writeback)
  };

  using Buffers = absl::InlinedVector<std::span<std::byte>, 1>;
  // Runs exactly once, with no lock of the device's held, on a thread of the
  // device's (or within Submit if the device is a synchronous one). It may
  // lock, copy and submit (queued) requests. Unavailable, naming operation,
  // place and errno, on failure; ResourceExhausted if the device is full.
  using Done = absl::AnyInvocable<void(absl::Status)>;

  Operation operation = Operation::kRead;
  Kind kind = Kind::kRequestType;
  uint64_t offset = 0;  // bytes
  uint64_t length = 0;  // bytes; of all buffers for kRead and kWrite
  Buffers buffers;
  Done done;
};

enum class Submission {
  // The request starts in the caller's context, which may wait for room in the
  // device's queue: that is the back-pressure.
  kDirect,
  // The caller must not block (it holds a lock or is a completion): the
  // request is queued and started by a thread of the device's.
  kQueued,
};

// Thread-safe. Requests are not ordered among each other, except that kFlush
// covers what completed before it was submitted. Ranges that overlap a write in
// flight are the caller's mistake for writes, and a matter of chance for reads.
// Any sector-aligned range may be asked for, whatever the device's own block
// size is; whole aligned blocks in aligned memory are the fast way. Short
// transfers are continued inside.
class BackingDevice {
 public:
  virtual ~BackingDevice() = default;

  // Bytes, a multiple of kSectorSize. Changes only in Refresh().
  virtual uint64_t size() const = 0;

  // What a cache remembers of the device; as it was when it was opened.
  virtual const BackingIdentity& identity() const = 0;

  // The absolute path or URI it was opened by, for messages and records.
  virtual const std::string& spec() const = 0;

  virtual bool is_read_only() const = 0;

  // Offset, length and memory alignment of the fast way; a power of two,
  // kSectorSize..kBlockSize.
  virtual uint32_t block_size() const = 0;

  // Starts all requests. Each must have a done callback; a range beyond size()
  // completes with OutOfRange.
  virtual void Submit(std::vector<BackingRequest> requests,
                      Submission submission) = 0;

  // One stretch of the device, for SEEK_HOLE and SEEK_DATA: the longest that is
  // known to begin at `offset` and be wholly data or wholly a hole. Devices
  // that cannot tell answer "data up to the end". May block.
  struct Extent {
    uint64_t length = 0;
    bool is_hole = false;
  };
  virtual absl::StatusOr<Extent> FindExtent(uint64_t offset) = 0;

  // Bytes really allocated, for st_blocks, as of the last flush or Refresh().
  // Does not wait for the device.
  virtual uint64_t allocated_bytes() = 0;

  // Asks the system for the size again.
  virtual absl::Status Refresh() = 0;
};

// Waits: for tools, management paths and background steps, never for requests
// of the mount. One request, its `done` supplied here.
absl::Status SubmitAndWait(BackingDevice& device, BackingRequest request);

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_BACKING_DEVICE_H_
