// A cache device that is a regular file or a block device, read and written
// through the page cache.
//
// The page cache is memory that outlives the process, so a Write is safe from
// our death at the price of a copy; Persist() is fdatasync. Not mapped: a store
// into a page that is not resident would read it from the media first.

#ifndef PCACHEFS_IOBACKEND_FILE_CACHE_DEVICE_H_
#define PCACHEFS_IOBACKEND_FILE_CACHE_DEVICE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "iobackend/cache_device.h"
#include "iobackend/file_io.h"
#include "iobackend/ring.h"
#include "iobackend/worker_thread.h"
#include "meta/types.h"

namespace pcachefs {

// A failed Write or Persist fails every later one (C9): the kernel tells of a
// lost page once, and calls it clean afterwards.
class FileCacheDevice final : public CacheDevice {
 public:
  struct Options {
    bool read_only = false;
    bool use_ring = true;  // for ReadAsync; else, or if refused, a thread
  };

  // `file` carries the lock and is kept for the device's life.
  static absl::StatusOr<std::unique_ptr<FileCacheDevice>> Create(
      const std::string& name, FileDescriptor file, const Options& options);

  // Waits for every ReadAsync().
  ~FileCacheDevice() override;

  uint64_t size() const override { return size_; }
  const std::string& name() const override { return name_; }
  bool is_volatile() const override { return false; }
  bool persist_is_cheap() const override { return false; }
  absl::Status Read(MediaOffset offset, std::span<std::byte> out) override;
  absl::StatusOr<bool> TryRead(MediaOffset offset,
                               std::span<std::byte> out) override;
  void ReadAsync(MediaOffset offset, std::span<std::byte> out,
                 absl::AnyInvocable<void(absl::Status)> done) override;
  absl::Status Write(MediaOffset offset,
                     std::span<const std::byte> bytes) override;
  absl::Status Persist() override;
  const std::byte* View(MediaOffset, uint64_t) override { return nullptr; }
  absl::Status Refresh() override;

 private:
  FileCacheDevice(const std::string& name, FileDescriptor file,
                  const Options& options, uint64_t size);

  absl::Status CheckNotFailed();
  absl::Status Fail(absl::Status failure);

  const std::string name_;
  const FileDescriptor file_;
  const bool read_only_;
  std::atomic<uint64_t> size_;
  // Cleared when the file system does not know RWF_NOWAIT. Relaxed: a hint.
  std::atomic<bool> can_try_ = true;

  // Persist() calls begun. A later fdatasync covers all of them.
  std::atomic<uint64_t> persists_begun_ = 0;
  // Held during fdatasync: of two that run at a time the kernel tells but one
  // of an error.
  absl::Mutex persist_mutex_;
  uint64_t persists_covered_ ABSL_GUARDED_BY(persist_mutex_) = 0;

  // Set after failure_; read without the mutex on the way of every Write.
  std::atomic<bool> has_failed_ = false;
  absl::Mutex failure_mutex_ ABSL_ACQUIRED_AFTER(persist_mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(failure_mutex_);

  // One of the two. Last, so that their threads end first.
  std::unique_ptr<Ring> ring_;
  std::unique_ptr<WorkerThread> worker_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_FILE_CACHE_DEVICE_H_
