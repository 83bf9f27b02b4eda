// The interface to the fast device: bytes that survive a crash.
//
// core/ sees cache devices only through this class; tests inject simulated
// ones. An object is owned by whoever made it and outlives the Cache over it.

#ifndef PCACHEFS_IOBACKEND_CACHE_DEVICE_H_
#define PCACHEFS_IOBACKEND_CACHE_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "meta/types.h"

namespace pcachefs {

// Thread-safe. Concurrent calls on overlapping bytes, one of them a Write, are
// a mistake of the caller's, except that a Read may overlap a Write if the
// reader can bear any mixture of old and new bytes.
//
// Errors: OutOfRange beyond size(); Unavailable when the media failed, with
// device, offset, length and errno in the message.
class CacheDevice {
 public:
  virtual ~CacheDevice() = default;

  // Bytes. Grows only in Refresh().
  virtual uint64_t size() const = 0;

  // Path or other name, for messages.
  virtual const std::string& name() const = 0;

  // True if the bytes do not survive the machine (tmpfs).
  virtual bool is_volatile() const = 0;

  // True if Persist() costs next to nothing, so that it may be called on any
  // thread; false if it may wait for the media.
  virtual bool persist_is_cheap() const = 0;

  // Reads out.size() bytes. May wait for the media.
  virtual absl::Status Read(MediaOffset offset, std::span<std::byte> out) = 0;

  // Reads if that needs no waiting: true when `out` is filled, false (contents
  // of `out` undefined) when the media must be asked.
  virtual absl::StatusOr<bool> TryRead(MediaOffset offset,
                                       std::span<std::byte> out) = 0;

  // Reads without blocking the caller; `done` runs exactly once, on a thread
  // of the device's or within the call. `out` is borrowed until then.
  virtual void ReadAsync(MediaOffset offset, std::span<std::byte> out,
                         absl::AnyInvocable<void(absl::Status)> done) = 0;

  // Visible to every Read and safe from a death of this process on return; not
  // durable before Persist. A power cut before that keeps any subset of the
  // sectors (DAX: of the 8-byte words) of any Writes not persisted.
  virtual absl::Status Write(MediaOffset offset,
                             std::span<const std::byte> bytes) = 0;

  // OK only when every Write that returned before the call is durable. After a
  // failure every later Persist fails too (C9): what the media holds is then
  // known only after reopening it.
  virtual absl::Status Persist() = 0;

  // The bytes themselves where the device is mapped memory, nullptr elsewhere.
  // Valid for the device's life; contents follow Writes. Failing memory reads
  // as zeroes there and makes every later Read and Write of those bytes fail,
  // so a checksum must be verified before the bytes are used.
  virtual const std::byte* View(MediaOffset offset, uint64_t length) = 0;

  // Asks the system for the size again; it never shrinks here: InvalidArgument
  // if the device has become smaller.
  virtual absl::Status Refresh() = 0;
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_CACHE_DEVICE_H_
