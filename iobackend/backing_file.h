// The file or block device behind a backing device: its descriptors, lock,
// identity and what it can do. What runs the requests is built on top of it.

#ifndef PCACHEFS_IOBACKEND_BACKING_FILE_H_
#define PCACHEFS_IOBACKEND_BACKING_FILE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iobackend/backing_device.h"
#include "iobackend/direct_access.h"
#include "iobackend/file_io.h"
#include "meta/records.h"

namespace pcachefs {

// Thread-safe. Locked for its life: exclusively, and block devices also against
// mounts and other such users of the system (O_EXCL); read-only ones share the
// lock with other readers.
//
// Two descriptors, one through the page cache and one around it. On a block
// device the kernel does not keep them coherent while both are busy with one
// page, so that BackingTransfer keeps to two rules: where there is direct
// access every read uses it, and so does every write of whole granules; a
// granule is a sector, or a whole page.
class BackingFile {
 public:
  struct Options {
    bool read_only = false;
    bool direct = true;
    // Tests: behave as if granules were at least so large; a power of two.
    uint32_t min_granule = 0;
  };

  static absl::StatusOr<std::unique_ptr<BackingFile>> Open(
      const std::string& spec, const Options& options);

  const std::string& spec() const { return spec_; }
  const BackingIdentity& identity() const { return identity_; }
  bool is_block_device() const {
    return identity_.kind == BackingKind::kBlockDevice;
  }
  bool is_read_only() const { return read_only_; }
  uint64_t size() const { return size_; }

  int buffered_fd() const { return buffered_.get(); }
  bool has_direct_access() const { return direct_.file.is_open(); }
  int direct_fd() const { return direct_.file.get(); }
  // Of offsets and lengths; kSectorSize without direct access.
  uint32_t granule() const { return direct_.granule; }
  uint32_t memory_alignment() const { return direct_.memory_alignment; }
  // Of fallocate(); 1 for files.
  uint32_t allocation_granule() const { return allocation_granule_; }

  // What fallocate() was found not to know here. Relaxed: hints, each thread
  // may find out on its own.
  bool can_punch() const { return can_punch_.load(std::memory_order_relaxed); }
  bool can_zero() const { return can_zero_.load(std::memory_order_relaxed); }
  void SetCannotPunch() { can_punch_.store(false, std::memory_order_relaxed); }
  void SetCannotZero() { can_zero_.store(false, std::memory_order_relaxed); }

  // As BackingDevice's.
  absl::StatusOr<BackingDevice::Extent> FindExtent(uint64_t offset) const;
  uint64_t allocated_bytes() const { return allocated_bytes_; }
  absl::Status Refresh();
  // Asks the system again; after a flush, and in Refresh. Whoever looks at a
  // file of the mount must not wait for a device that hangs.
  void RefreshAllocation();

  // What of `request` can be said without asking the device: alignment, range,
  // buffers, permission.
  absl::Status Validate(const BackingRequest& request) const;

 private:
  BackingFile(const std::string& spec, const Options& options,
              FileDescriptor buffered, BackingIdentity identity);

  const std::string spec_;
  const bool read_only_;
  const FileDescriptor buffered_;  // carries the lock
  const BackingIdentity identity_;
  DirectAccess direct_;
  uint32_t allocation_granule_ = 1;
  std::atomic<uint64_t> size_;
  std::atomic<uint64_t> allocated_bytes_ = 0;
  std::atomic<bool> can_punch_ = true;
  std::atomic<bool> can_zero_ = true;
};

}  // namespace pcachefs

#endif  // PCACHEFS_IOBACKEND_BACKING_FILE_H_
