// A cache device that is mapped memory: a file on tmpfs, or persistent memory
// through DAX. Hits are plain copies, and no request ever waits.
//
// tmpfs: survives the process, not the machine; Persist() only tells of
// failures. DAX: Write() moves its stores out of the processor's caches.
//
// Memory that fails (SIGBUS) is marked by a MappingGuard: every later call on
// those bytes is Unavailable until the device is opened again. A failed Write
// also fails every later Write and Persist (C9); a failed Read does not, since
// it says nothing about what was written elsewhere.
//
// The mapping is kept out of mlockall(MCL_FUTURE): locked, it would be
// allocated whole. MCL_CURRENT, however, locks what is open already: lock
// memory first, open devices afterwards.

#ifndef PCACHEFS_IOBACKEND_MEMORY_CACHE_DEVICE_H_
#define PCACHEFS_IOBACKEND_MEMORY_CACHE_DEVICE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "iobackend/cache_device.h"
#include "iobackend/file_io.h"
#include "iobackend/mapping_guard.h"
#include "iobackend/prefault.h"
#include "meta/types.h"

namespace pcachefs {

class MemoryCacheDevice final : public CacheDevice {
 public:
  enum class Media {
    kTmpfs,
    kDax,             // Unimplemented if the system cannot map with MAP_SYNC
    kDaxWithoutSync,  // of a device, which has no file system to synchronise
  };
  struct Options {
    Media media = Media::kTmpfs;
    bool read_only = false;
    bool is_new = false;        // created just now: nothing was ever written
    uint64_t size = 0;          // bytes
    uint64_t page_size = 4096;  // of the mapping, bytes
  };

  // `file` carries the lock and is kept for the device's life.
  static absl::StatusOr<std::unique_ptr<MemoryCacheDevice>> Create(
      const std::string& name, FileDescriptor file, const Options& options);
  ~MemoryCacheDevice() override;

  uint64_t size() const override;
  const std::string& name() const override { return name_; }
  bool is_volatile() const override;
  bool persist_is_cheap() const override { return true; }
  absl::Status Read(MediaOffset offset, std::span<std::byte> out) override;
  absl::StatusOr<bool> TryRead(MediaOffset offset,
                               std::span<std::byte> out) override;
  void ReadAsync(MediaOffset offset, std::span<std::byte> out,
                 absl::AnyInvocable<void(absl::Status)> done) override;
  absl::Status Write(MediaOffset offset,
                     std::span<const std::byte> bytes) override;
  absl::Status Persist() override;
  const std::byte* View(MediaOffset offset, uint64_t length) override;
  absl::Status Refresh() override;

 private:
  // The device as it was at some Refresh(). Older ones stay mapped, so that
  // what View() returned stays valid; all are the same bytes.
  struct Mapping {
    ~Mapping();

    std::byte* begin = nullptr;
    size_t size = 0;
    std::unique_ptr<MappingGuard> guard;
    // Of tmpfs; elsewhere a fault is what makes metadata durable.
    std::unique_ptr<Prefault> prefault;
  };

  MemoryCacheDevice(const std::string& name, FileDescriptor file,
                    const Options& options)
      : name_(name), file_(std::move(file)), options_(options) {}

  absl::Status Map(uint64_t size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const Mapping& mapping() const {
    return *current_.load(std::memory_order_acquire);
  }
  absl::Status CheckMarks(const char* operation, const Mapping& mapping,
                          uint64_t offset, uint64_t length) const;
  absl::Status Fail(absl::Status failure);

  const std::string name_;
  const FileDescriptor file_;
  const Options options_;
  std::atomic<const Mapping*> current_ = nullptr;
  // Set after failure_; read without the mutex on the way of every Write.
  std::atomic<bool> has_failed_ = false;
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<Mapping>> mappings_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_MEMORY_CACHE_DEVICE_H_
